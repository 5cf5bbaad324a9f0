"""What Auth is told, checked; and what it says where that is wrong. The shapes are GoTrue's."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from local.supabase import users
from local.supabase.answers import body

EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
MIN_PASSWORD = 6


class AuthError(Exception):
    """An error in GoTrue's shape."""

    def __init__(self, status: int, code: str, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.content = {"code": status, "error_code": code, "msg": message, **more}


def _address(email: str) -> str:
    email = email.strip().lower()
    if not EMAIL.fullmatch(email):
        raise ValueError("Unable to validate email address: invalid format")
    return email


Email = Annotated[str, AfterValidator(_address), Field(max_length=255)]
Password = Annotated[str, Field(max_length=1000)]


class Form(BaseModel):
    """A body. What is not named here is refused, so that nobody believes it was heeded."""

    model_config = ConfigDict(extra="forbid")

    email: Email | None = None
    password: Password | None = None
    phone: Literal[""] | None = None
    gotrue_meta_security: Any = None
    """A captcha, which is not asked for."""


class SignUp(Form):
    """For signing up, and with a password in."""

    data: dict[str, Any] | None = None
    code_challenge: Any = None
    code_challenge_method: Any = None
    """For confirmation by mail, of which there is none; as `channel` is for SMS."""
    channel: Any = None


class UserUpdate(SignUp):
    """What users change of themselves."""

    nonce: Literal[""] | None = None


class AdminUser(Form):
    """What a server says of a user."""

    id: UUID | None = None
    email_confirm: bool = False
    user_metadata: dict[str, Any] | None = None
    app_metadata: dict[str, Any] | None = None
    role: Annotated[str, Field(max_length=63)] | None = None


class Refresh(BaseModel):
    """For going on with a session."""

    model_config = ConfigDict(extra="forbid")

    refresh_token: str


class Deletion(BaseModel):
    """How a user is deleted: for good."""

    model_config = ConfigDict(extra="forbid")

    should_soft_delete: Literal[False] = False


Model = TypeVar("Model", bound=BaseModel)


async def form(request: Request, model: type[Model]) -> Model:
    """The body as such a form. Raises AuthError."""
    try:
        return model.model_validate_json(await body(request) or b"{}")
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, problem["loc"]))
        text = problem["msg"].removeprefix("Value error, ")
        raise AuthError(400, "validation_failed", f"{where}: {text}" if where not in {"", "email"} else text) from error


async def new_hash(password: str, old: str | None = None) -> str:
    """The hash of a new password, which may not be too weak nor the old one again. Raises AuthError."""
    if len(password) < MIN_PASSWORD:
        message = f"Password should be at least {MIN_PASSWORD} characters."
        raise AuthError(422, "weak_password", message, weak_password={"reasons": ["length"]})
    if await asyncio.to_thread(users.is_password, password, old):
        raise AuthError(422, "same_password", "New password should be different from the old password.")
    return await asyncio.to_thread(users.hash_password, password)


def email_exists() -> AuthError:
    """The address is someone else's."""
    return AuthError(422, "email_exists", "A user with this email address has already been registered")
