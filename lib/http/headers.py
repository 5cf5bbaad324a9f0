"""Headers that may come once at most (RFC 9110, section 5.3)."""

from __future__ import annotations

from starlette.requests import Request

from lib.errors import InvalidRequest


def only(request: Request, name: str) -> str | None:
    """The header's value. Raises InvalidRequest where it comes twice: whoever reads the other one acts on another."""
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(f"Send one {name} header, not {len(values)}.", code="repeated_header")
    return values[0] if values else None
