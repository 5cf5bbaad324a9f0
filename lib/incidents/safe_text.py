"""Text that strangers wrote, made fit for an issue: no mention, picture, link or HTML comes out of it, and no secret.

Pure. Foreign text stands in a fenced code block alone, whose fence is longer than any run of its character inside
(CommonMark 0.31, section 4.5: what a fence holds is literal). Outside of it there are only our own words and single
words of the payload, reduced to the characters that names have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_BYTES = 4096
MAX_WORD = 100
MIN_SECRET = 6
"""Characters. What is shorter would blank out words that merely look like it."""
CUT = "\n… (cut)"
HIDDEN = "[secret]"

# Everything but line feed and tab that is not drawn: controls, format and bidi characters, surrogates, tags, variation
# selectors, and the odd separators.
_INVISIBLE = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffd\ud800-\udfff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_PREFIXED = (
    r"\b(?:gsk|xai|sk|pk|rk|gh[opusr]|github_pat|glpat|xox[abpr]|sbp?|secret|whsec|vc[pa]|vercel|npm|hf|r8)[-_]"
    r"(?=[-_A-Za-z0-9]*[0-9])[-_A-Za-z0-9]{12,}"
)
_ASSIGNED = (
    r"(?i)(?:key|token|secret|password|passwd|pwd|credential|authorization)s?[\"']?\s*[:=]\s*"
    r"(?:\"[^\"\n]{6,}\"?|'[^'\n]{6,}'?|[^\s\"',;&]{6,})"
)
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        # Keys as vendors make them, tokens, and credentials within URLs, headers and assignments.
        _PREFIXED,
        r"\b(?:AKIA|ASIA|AIza)[-_A-Za-z0-9]{12,}",
        r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
        r"(?<=://)[^\s/@:]{1,256}:[^\s/@]{1,256}(?=@)",
        r"(?i)(?<=bearer )[\w.~+/=-]{8,}",
        r"(?i)(?<=basic )[\w+/=-]{8,}",
        _ASSIGNED,
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    )
)


class Redactor:
    """Takes secrets out of texts: those of our environment by value, others by how such things look."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """`secrets`: the values themselves; they stay here."""
        values = sorted({value for value in secrets if len(value) >= MIN_SECRET}, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, values))) if values else None

    def __call__(self, text: str) -> str:
        """The text with `[secret]` in place of each."""
        if self._values is not None:
            text = self._values.sub(HIDDEN, text)
        for pattern in _PATTERNS:
            text = pattern.sub(HIDDEN, text)
        return text

    def clean(self, text: str) -> str:
        """Foreign text as it may be kept: visible characters, no secrets, no more than MAX_BYTES bytes of UTF-8.

        Characters go first: one that nobody sees must not save a secret in which it stands.
        """
        text = self(visible(text[: 16 * MAX_BYTES]))
        if len(text.encode()) <= MAX_BYTES:
            return text
        return text.encode()[: MAX_BYTES - len(CUT.encode())].decode("utf-8", "ignore") + CUT


def visible(text: str) -> str:
    """The text without what is not drawn; line ends are line feeds."""
    text = _COLOURS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _INVISIBLE.sub("", text)


def fenced(text: str) -> str:
    """Cleaned text as a code block of Markdown, in which it is literal; without our marker's beginning."""
    text = text.replace("<!--", "<! --").replace("-->", "-- >").replace("@", "@\u200b")
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def word(text: object, most: int = MAX_WORD) -> str:
    """A single name out of a payload, for our own sentences: letters, digits and the signs that names and paths have.

    What could be Markdown, a mention, a reference or a link is left out, so it can stand outside of a fence.
    """
    kept = re.sub(r"[^A-Za-z0-9 ./:-]", "", visible(str(text))).replace("://", " ")
    kept = re.sub(r"(?i)\b(www)\.", r"\1 ", kept)
    return " ".join(kept.split())[:most].strip()


def code(text: object, most: int = MAX_WORD) -> str:
    """A single name as inline code."""
    kept = re.sub(r"[^A-Za-z0-9 ._/:+()=,-]", "", visible(str(text)))
    kept = " ".join(kept.split())[:most].strip()
    return f"`{kept}`" if kept else "`?`"
