"""What JavaScript makes of numbers, URLs and hashes: Hypertune's expressions mean what they mean there."""

from __future__ import annotations

import math
import re
import struct
from decimal import Decimal
from urllib.parse import parse_qsl

MAX_SAFE_INTEGER = 2**53 - 1
_32_BITS = 0xFFFF_FFFF
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_AUTHORITY = re.compile(r"[/\\]*([^/\\?#]*)")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\x00-\x20#/:<>?@\[\\\]^|\x7f]+)(?::([0-9]*))?")
_WITH_HOST = {"http:", "https:", "ws:", "wss:", "ftp:"}
_MAX_PORT = 65_535
_C0_AND_SPACE = "".join(map(chr, range(33)))
_DROPPED = str.maketrans("", "", "\t\n\r")

Hash = tuple[int, int]
EMPTY_HASH: Hash = (0xDEAD_BEEF, 0x41C6_CE57)
"""cyrb53 of no text yet, with seed 0."""


def absorb(state: Hash, text: str) -> Hash:
    """cyrb53 after more text, taken as UTF-16 code units. A prefix that is always the same is absorbed once."""
    first, second = state
    for unit in text.encode() if text.isascii() else _utf16(text):
        first = (first ^ unit) * 2_654_435_761 & _32_BITS
        second = (second ^ unit) * 1_597_334_677 & _32_BITS
    return first, second


def cyrb53(state: Hash) -> int:
    """The 53-bit hash of the text that was absorbed (bryc's cyrb53, public domain)."""
    first, second = state
    mixed = _multiplied(first ^ first >> 16, 2_246_822_507) ^ _multiplied(second ^ second >> 13, 3_266_489_909)
    high = _multiplied(second ^ second >> 16, 2_246_822_507) ^ _multiplied(mixed ^ mixed >> 13, 3_266_489_909)
    return (high & 0x1F_FFFF) << 32 | mixed


def _multiplied(a: int, b: int) -> int:
    return a * b & _32_BITS


def _utf16(text: str) -> tuple[int, ...]:
    units = text.encode("utf-16-le", "surrogatepass")
    return struct.unpack(f"<{len(units) // 2}H", units)


def number(value: float) -> int | float:
    """The value as JavaScript holds it, an int where it is integral and exact: never a huge int."""
    try:
        exact = float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    if not exact.is_integer() or abs(exact) > MAX_SAFE_INTEGER or (exact == 0 and math.copysign(1, exact) < 0):
        return exact
    return int(exact)


def divided(a: float, b: float) -> float:
    """As JavaScript's a / b: infinities and NaN instead of an error."""
    if b != 0:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)


def remainder(a: float, b: float) -> float:
    """As JavaScript's a % b: the sign is that of a."""
    return math.nan if b == 0 or math.isinf(a) else math.fmod(a, b)


def power(a: float, b: float) -> float:
    """As JavaScript's a ** b: infinities and NaN instead of an error or a complex number."""
    if math.isnan(b) or (abs(a) == 1 and math.isinf(b)):
        return math.nan
    odd = b % 2 == 1  # of a negative base, whether the sign stays
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and odd else math.inf
    except ValueError:
        if a != 0:
            return math.nan
        return math.copysign(math.inf, a) if odd else math.inf


def rounded(value: float) -> float:
    """Math.round: halves go up, and what comes to zero from below is -0."""
    if not math.isfinite(value):
        return value
    below = math.floor(value)
    return math.copysign(below if value - below < 0.5 else below + 1, value)  # noqa: PLR2004 - a half


def text_of(value: float) -> str:
    """Number.prototype.toString (ECMA-262, Number::toString): the shortest digits, laid out as JavaScript does."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    sign, figures, exponent = Decimal(repr(value)).normalize().as_tuple()
    digits = "".join(map(str, figures))
    point = len(digits) + int(exponent)  # where the decimal point stands, counted from the first digit
    if len(digits) <= point <= 21:  # noqa: PLR2004 - the standard's bounds
        layout = digits.ljust(point, "0")
    elif 0 < point <= 21:  # noqa: PLR2004
        layout = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:  # noqa: PLR2004
        layout = f"0.{'0' * -point}{digits}"
    else:
        mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
        layout = f"{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return f"-{layout}" if sign else layout


def query_parameter(url: str, name: str) -> str:
    """`new URL(url).searchParams.get(name)`, and "" for none or no absolute URL; hosts are checked by character."""
    url = url.strip(_C0_AND_SPACE).translate(_DROPPED)
    scheme = _SCHEME.match(url)
    if scheme is None or (scheme[0].lower() in _WITH_HOST and not _has_host(url[scheme.end() :])):
        return ""
    query = url.partition("#")[0].partition("?")[2]
    pairs = parse_qsl(query, keep_blank_values=True, errors="replace")
    return next((value for key, value in pairs if key == name), "")


def _has_host(rest: str) -> bool:
    authority = _AUTHORITY.match(rest)
    host = _HOST.fullmatch(authority[1].rpartition("@")[2]) if authority else None
    return host is not None and len(host[1] or "") <= 5 and int(host[1] or 0) <= _MAX_PORT  # noqa: PLR2004 - digits
