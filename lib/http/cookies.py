"""Our cookies (RFC 6265) and where a request comes from."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from lib.errors import AppError, Forbidden

MAX_AGE_S = 365 * 24 * 3600
MAX_BYTES = 4096
"""A browser may drop a longer cookie, its name and attributes included, without a word."""
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def cookie(request: Request, name: str) -> str:
    """A cookie of the request. Ours are never quoted, so the standard library's slow unquoting is not needed."""
    for header in request.headers.getlist("cookie"):
        for pair in header.split(";"):
            found, _, value = pair.partition("=")
            if found.strip() == name:
                return value.strip()
    return ""


def set_cookie(request: Request, name: str, value: str, *, max_age_s: int = MAX_AGE_S) -> str:
    """The Set-Cookie header for the whole site, out of scripts' reach; `Secure` where the caller came by https.

    An age of 0 deletes it. Raises AppError for a value that browsers would not keep.
    """
    secure = "; Secure" if is_https(request) else ""
    header = f"{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_s}{secure}"
    if len(header) > MAX_BYTES:
        raise AppError("This account's token is too long for a cookie.", code="session_too_large")
    return header


def is_https(request: Request) -> bool:
    """Whether the caller came by https."""
    # Behind several proxies the header is a list; the first is who the caller spoke to.
    return request.headers.get("x-forwarded-proto", request.url.scheme).partition(",")[0].strip() == "https"


def address(request: Request) -> str | None:
    """The caller's IP address. On Vercel the platform writes the header; callers can't."""
    forwarded = request.headers.get("x-forwarded-for", "").partition(",")[0].strip()
    return forwarded or (request.client.host if request.client else None)


def require_same_origin(request: Request, allowed: tuple[str, ...]) -> None:
    """Refuse to change something in the name of a cookie that another site's page sent along. Raises Forbidden.

    Browsers say where a request comes from: in `Sec-Fetch-Site`, those that do not in `Origin`. Who sends neither is no
    browser, and has the cookie by its owner's will. `allowed` are the origins of ALLOWED_ORIGINS.
    """
    if request.method in SAFE_METHODS:
        return
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    if origin in allowed or site in {"same-origin", "none"}:
        return
    if site is None and (origin is None or urlsplit(origin).netloc == request.headers.get("host")):
        return
    raise Forbidden("This page is another site's: it may not act for you here.", code="cross_site")
