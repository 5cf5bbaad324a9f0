"""Users, sessions and refresh tokens: rows of the auth schema. Each function works in the transaction it is given."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, Literal, LiteralString
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from local.supabase.database import Connection

REUSE_S = 10
"""For so long a refresh token that was exchanged may be exchanged again, as hosted: two tabs may do so at once."""
BY_EMAIL = {"provider": "email", "providers": ["email"]}
SCRYPT = (2**14, 8, 1)

USER: LiteralString = """
select jsonb_strip_nulls(jsonb_build_object(
         'id', id, 'aud', aud, 'role', role, 'email', coalesce(email, ''), 'phone', coalesce(phone, ''),
         'email_confirmed_at', email_confirmed_at, 'confirmed_at', confirmed_at, 'last_sign_in_at', last_sign_in_at,
         'banned_until', banned_until, 'created_at', created_at, 'updated_at', updated_at, 'is_anonymous', is_anonymous
       )) || jsonb_build_object(
         'app_metadata', coalesce(raw_app_meta_data, '{}'), 'user_metadata', coalesce(raw_user_meta_data, '{}'),
         'identities', coalesce((
           select jsonb_agg(jsonb_build_object(
                    'identity_id', i.id, 'id', i.provider_id, 'user_id', i.user_id, 'identity_data', i.identity_data,
                    'provider', i.provider, 'email', i.email, 'last_sign_in_at', i.last_sign_in_at,
                    'created_at', i.created_at, 'updated_at', i.updated_at) order by i.created_at)
             from auth.identities i where i.user_id = u.id), '[]'))
  from auth.users u
"""

User = dict[str, Any]
"""A user in GoTrue's JSON."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session that goes on with this refresh token; `since` in seconds since the epoch."""

    id: UUID
    user_id: UUID
    refresh_token: str
    since: int


class RefreshError(Exception):
    """A refresh token that does not (or no longer) count."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


async def user(connection: Connection, user_id: UUID) -> User | None:
    """The user with this id."""
    cursor = await connection.execute(USER + " where id = %s", [user_id])
    row = await cursor.fetchone()
    return row[0] if row else None


async def users(connection: Connection, page: int, per_page: int) -> tuple[list[User], int]:
    """A page of all users, the newest first, and how many there are."""
    cursor = await connection.execute(
        USER + " order by created_at desc, id limit %s offset %s", [per_page, (page - 1) * per_page]
    )
    found = [row[0] for row in await cursor.fetchall()]
    cursor = await connection.execute("select count(*) from auth.users")
    row = await cursor.fetchone()
    return found, row[0] if row else 0


async def by_email(connection: Connection, email: str) -> tuple[UUID, str | None, bool] | None:
    """The user with this address: id, password's hash, and whether the address is confirmed."""
    cursor = await connection.execute(
        "select id, encrypted_password, email_confirmed_at is not null from auth.users where email = %s", [email]
    )
    row = await cursor.fetchone()
    return (row[0], row[1], row[2]) if row else None


async def password_hash(connection: Connection, user_id: UUID) -> str | None:
    """The hash of a user's password."""
    cursor = await connection.execute("select encrypted_password from auth.users where id = %s", [user_id])
    row = await cursor.fetchone()
    return row[0] if row else None


async def create(
    connection: Connection,
    *,
    email: str | None,
    hashed: str | None,
    data: dict[str, Any],
    app_data: dict[str, Any] | None = None,
    confirmed: bool = True,
    user_id: UUID | None = None,
    role: str = "authenticated",
) -> UUID:
    """Make a user, anonymous where there is no address. Raises psycopg's UniqueViolation for a taken address or id."""
    new = user_id or uuid4()
    await connection.execute(
        """
        insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
                                raw_app_meta_data, raw_user_meta_data, is_anonymous)
        values ('00000000-0000-0000-0000-000000000000', %s, 'authenticated', %s, %s, %s, case when %s then now() end,
                %s, %s, %s)
        """,
        [
            *(new, role, email, hashed, confirmed and email is not None),
            *(Jsonb({**(BY_EMAIL if email else {}), **(app_data or {})}), Jsonb(data), email is None),
        ],
    )
    if email:
        await _identify(connection, new, email, verified=confirmed)
    return new


async def update(
    connection: Connection,
    user_id: UUID,
    *,
    email: str | None = None,
    confirm: bool = False,
    hashed: str | None = None,
    data: dict[str, Any] | None = None,
    app_data: dict[str, Any] | None = None,
    role: str | None = None,
) -> None:
    """Change what is given. Of metadata the keys given are laid over, and those that are null removed."""
    await connection.execute(
        """
        update auth.users
           set email = coalesce(%(email)s, email),
               email_confirmed_at = case when %(confirm)s then coalesce(email_confirmed_at, now())
                                         else email_confirmed_at end,
               is_anonymous = is_anonymous and not (%(confirm)s and %(email)s::text is not null),
               encrypted_password = coalesce(%(hashed)s, encrypted_password),
               raw_user_meta_data = (coalesce(raw_user_meta_data, '{}') || %(data)s) - %(gone)s::text[],
               raw_app_meta_data = (coalesce(raw_app_meta_data, '{}') || %(app_data)s) - %(app_gone)s::text[],
               role = coalesce(%(role)s, role),
               updated_at = now()
         where id = %(id)s
        """,
        {
            "id": user_id,
            "email": email,
            "confirm": confirm,
            "hashed": hashed,
            "data": Jsonb(data or {}),
            "gone": [key for key, value in (data or {}).items() if value is None],
            "app_data": Jsonb({**(BY_EMAIL if email else {}), **(app_data or {})}),
            "app_gone": [key for key, value in (app_data or {}).items() if value is None],
            "role": role,
        },
    )
    if email:
        await connection.execute("delete from auth.identities where user_id = %s and provider = 'email'", [user_id])
        await _identify(connection, user_id, email, verified=confirm)


async def delete(connection: Connection, user_id: UUID) -> bool:
    """Delete a user and, by the schema, what is theirs. Whether there was one."""
    cursor = await connection.execute("delete from auth.users where id = %s", [user_id])
    return cursor.rowcount == 1


async def begin_session(connection: Connection, user_id: UUID) -> Session:
    """Sign a user in."""
    session_id, token = uuid4(), secrets.token_urlsafe(24)
    cursor = await connection.execute(
        """
        insert into auth.sessions (id, user_id, aal) values (%s, %s, 'aal1')
        returning extract(epoch from created_at)::bigint
        """,
        [session_id, user_id],
    )
    row = await cursor.fetchone()
    await _add_token(connection, session_id, user_id, token, parent=None)
    await connection.execute("update auth.users set last_sign_in_at = now() where id = %s", [user_id])
    return Session(session_id, user_id, token, row[0] if row else 0)


async def go_on(connection: Connection, token: str) -> Session:
    """Exchange a refresh token, as GoTrue does: whoever did not get the answer may ask again.

    A token that comes back later than that has two owners: its session is ended. Raises RefreshError; the transaction
    is to be committed all the same.
    """
    found = await _locked_token(connection, token)
    if found is None:
        raise RefreshError("refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
    session_id, user_id, since, revoked, reusable, successor = found
    if revoked and successor is not None:
        return Session(session_id, user_id, successor, since)
    if revoked and not reusable:
        await connection.execute("delete from auth.sessions where id = %s", [session_id])
        raise RefreshError("refresh_token_already_used", "Invalid Refresh Token: Already Used")
    new = secrets.token_urlsafe(24)
    await connection.execute(
        "update auth.refresh_tokens set revoked = true, updated_at = now() where token = %s and not revoked", [token]
    )
    await _add_token(connection, session_id, user_id, new, parent=token)
    await connection.execute(
        "update auth.sessions set refreshed_at = now() at time zone 'utc', updated_at = now() where id = %s",
        [session_id],
    )
    return Session(session_id, user_id, new, since)


async def has_session(connection: Connection, session_id: str) -> bool:
    """Whether this session has not been ended."""
    cursor = await connection.execute("select 1 from auth.sessions where id = %s::uuid", [session_id])
    return await cursor.fetchone() is not None


async def end_sessions(
    connection: Connection, user_id: UUID, session_id: str | None, scope: Literal["global", "local", "others"]
) -> None:
    """Sign a user out: of all sessions, of this one, or of the others."""
    await connection.execute(
        """
        delete from auth.sessions
         where user_id = %(user)s
           and case %(scope)s when 'local' then id = %(session)s::uuid when 'others' then id <> %(session)s::uuid
                              else true end
        """,
        {"user": user_id, "session": session_id, "scope": scope},
    )


def hash_password(password: str) -> str:
    """A salted hash, by scrypt (RFC 7914). Takes some 50 ms: for a thread."""
    salt = secrets.token_bytes(16)
    n, r, p = SCRYPT
    key = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p)
    return f"$scrypt${n}${r}${p}${b64encode(salt).decode()}${b64encode(key).decode()}"


def is_password(password: str, hashed: str | None) -> bool:
    """Whether this is the password; a hash that is not ours fits none. For a thread."""
    match (hashed or "").split("$"):
        case ["", "scrypt", n, r, p, salt, key]:
            made = hashlib.scrypt(password.encode(), salt=b64decode(salt), n=int(n), r=int(r), p=int(p))
            return hmac.compare_digest(made, b64decode(key))
        case _:
            return False


async def _identify(connection: Connection, user_id: UUID, email: str, *, verified: bool) -> None:
    identity = {"sub": str(user_id), "email": email, "email_verified": verified, "phone_verified": False}
    await connection.execute(
        """
        insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at)
        values (%s, %s, %s, 'email', now())
        """,
        [str(user_id), user_id, Jsonb(identity)],
    )


async def _locked_token(connection: Connection, token: str) -> tuple[UUID, UUID, int, bool, bool, str | None] | None:
    """The token's session, locked: id, user, beginning; whether the token is revoked, is reusable; its successor."""
    await connection.execute(
        "select from auth.sessions where id = (select session_id from auth.refresh_tokens where token = %s) for update",
        [token],
    )
    cursor = await connection.execute(
        """
        select s.id, s.user_id, extract(epoch from s.created_at)::bigint, t.revoked,
               now() - t.updated_at <= %s * interval '1 s',
               (select c.token from auth.refresh_tokens c where c.parent = t.token and not c.revoked limit 1)
          from auth.refresh_tokens t join auth.sessions s on s.id = t.session_id
         where t.token = %s
        """,
        [REUSE_S, token],
    )
    row = await cursor.fetchone()
    return (row[0], row[1], row[2], row[3], row[4], row[5]) if row else None


async def _add_token(connection: Connection, session_id: UUID, user_id: UUID, token: str, parent: str | None) -> None:
    await connection.execute(
        """
        insert into auth.refresh_tokens (session_id, user_id, token, parent, revoked) values (%s, %s, %s, %s, false)
        """,
        [session_id, str(user_id), token, parent],
    )
