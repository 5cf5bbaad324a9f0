"""What strangers wrote stays text in an issue, by GitHub's own Markdown parser, and carries no secret."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.incidents import texts
from lib.incidents.fingerprint import fingerprint, marked, marker_of
from lib.incidents.safe_text import MAX_BYTES, Redactor, fenced
from lib.incidents.steps import Incident

CMARK: Any = importlib.import_module("cmarkgfm")
"""GitHub's parser; it comes without types."""
PRINT = fingerprint("deploy", "s", ())
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PIECES = (
    *(
        "`",
        "``",
        "```",
        "````",
        "~~~",
        "\n```\n",
        "\n\n",
        "\r\n",
        "\n~~~~\n",
        "    ",
        "\t",
        "> ",
        "- ",
        "* ",
        "# ",
        "|",
    ),
    *("<!--", "-->", "<script>alert(1)</script>", "<img src=x>", "![a](https://x.test/a.png)", "<details>", "</pre>"),
    *("@octocat", "@acme/team", "#1", "acme/web#1", "https://x.test", "www.x.test", "[a](b)", "&lt;", "&#64;", "\\"),
    *(
        "\u202e",
        "\u200b",
        "\u2066",
        "\0",
        "\x1b[31m",
        "\ud800",
        "\udfff",
        "\ufeff",
        "\U000e0041",
        "\x85",
        "\u2028",
        "é",
    ),
    *(marker_of(PRINT), marker_of("v1:0000000000000000"), "fixes #1", "a" * 500, "\U0001f600"),
)


def incident(text: str, *, title: str = "Failed", fact: str = "") -> Incident:
    """An incident with this for evidence, as the row has it."""
    redact = Redactor(())
    return Incident(
        id=1,
        fingerprint=PRINT,
        kind="deploy",
        subject="s",
        title=texts.title(title),
        evidence={"facts": {"ref": fact}, "text": redact.clean(text), "hint": ""},
        state="open",
        resolution=None,
        muted=False,
        flapping=True,
        occurrences=2,
        first_seen=NOW,
        last_seen=NOW,
        opened_at=NOW,
        resolved_at=None,
        lasting_s=0,
        issue_number=None,
        previous_issue=None,
        told=None,
        told_occurrences=0,
        attempted_at=None,
        lease_until=None,
        trouble=None,
    )


def rendered(markdown: str) -> str:
    """As GitHub's parser has it, with all the HTML it lets through: other filters there are not counted on."""
    return CMARK.github_flavored_markdown_to_html(markdown, options=CMARK.cmark.Options.CMARK_OPT_UNSAFE)


class Page(HTMLParser):
    """What a rendered issue is made of, with the text outside of code."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.blocks = 0
        self.comments: list[str] = []
        self.outside = ""
        self._code = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the base's
        """A tag begins."""
        self.tags.add(tag)
        self.blocks += tag == "pre"
        self._code += tag in {"pre", "code"}

    def handle_endtag(self, tag: str) -> None:
        """A tag ends."""
        self._code -= tag in {"pre", "code"}

    def handle_data(self, data: str) -> None:
        """Text."""
        self.outside += "" if self._code else data

    def handle_comment(self, data: str) -> None:
        """A comment."""
        self.comments.append(data)


def check(text: str, title: str, fact: str) -> None:
    """Every text that GitHub gets of this incident, rendered: ours alone is outside of code."""
    told = incident(text, title=title, fact=fact)
    body = texts.body(told)
    assert body.count(marker_of(PRINT)) == 1
    assert marked(body) == PRINT
    for written in (body, texts.repeated(told), texts.reopened(told)):
        written.encode()  # no half of a character
        page = Page(rendered(written))
        assert page.tags <= {"p", "ul", "li", "pre", "code", "em"}
        assert page.blocks == bool(told.evidence["text"])
        assert page.comments == ([marker_of(PRINT)[4:-3]] if written is body else [])
        assert re.search(r"@|#\d|https?:|www\.|<|!\[", page.outside) is None
    assert re.search(r"[@#<>`\[\]]", told.title) is None


def test_ten_thousand_texts() -> None:
    """Generated out of what Markdown and HTML give a meaning to: no mention, picture, link or HTML gets out."""
    random = Random(20261122)  # noqa: S311 - the same each time

    def draw(most: int) -> str:
        return "".join(random.choice(PIECES) for _ in range(random.randrange(most)))

    for _ in range(10_000):
        check(draw(12), draw(4), draw(4))


@given(st.text(), st.text(), st.text())
def test_any_text(text: str, title: str, fact: str) -> None:
    """Whatever it is."""
    check(text, title, fact)


def test_the_fence_is_what_holds() -> None:
    """With a fence of three, the same parser lets the same text out: so the test above can fail."""
    text = "```\n<img src=x>\n```"
    safe = rendered(fenced(text))
    assert "img" not in Page(safe).tags
    assert "img" in Page(rendered(f"```\n{text}\n```")).tags


SECRETS = ("gsk_live_0123456789abcdef", "plain-password-without-form", "p4ss")


@pytest.mark.parametrize(
    "text",
    [
        f"key {SECRETS[0]}",
        f"{SECRETS[1]}",
        f"a\u200bb {SECRETS[0][:8]}\u200b{SECRETS[0][8:]}",
        f"{SECRETS[1][:4]}\x1b[0m{SECRETS[1][4:]}",
        "Authorization: Bearer plain-password-without-form",
    ],
)
def test_our_secrets_go_by_value(text: str) -> None:
    """Also where characters that nobody sees stand within them."""
    cleaned = Redactor(SECRETS).clean(text)
    assert "[secret]" in cleaned
    assert all(secret not in cleaned for secret in SECRETS[:2])


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("ghp_" + "a1" * 18, "ghp_"),
        ("token github_pat_11ABC_" + "x9" * 20, "github_pat"),
        ("xai-" + "A1b2" * 10, "xai-"),
        ("postgres://user:hunter22@db.test/x", "hunter22"),
        ("GROQ_API_KEY=abcdef123456", "abcdef123456"),
        ('{"password": "correct horse"}', "correct"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "eyJ"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIA"),
    ],
)
def test_others_secrets_go_by_form(text: str, secret: str) -> None:
    """What looks like a key, a token or a password."""
    assert secret not in Redactor(()).clean(text)


def test_words_are_no_secrets() -> None:
    """What merely speaks of one, or is too short to be known by its value, stays."""
    text = "Error: the token expired; npm-run-script p4ss failed with a secret error"
    assert Redactor(SECRETS).clean(text) == text


@given(st.text(max_size=8), st.text(min_size=30))
def test_length(begin: str, text: str) -> None:
    """Never more than 4 KiB, and whole characters, wherever the cut falls."""
    assert len(Redactor(()).clean(begin + text * 300).encode()) <= MAX_BYTES
