"""A conversation over several turns: who serves it, what is sent, and what a vendor's cache can make of it."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.http.generate_request import read_generate_request
from lib.providers.base import Model
from lib.providers.catalog import ROWS, Row
from lib.providers.chat import request_arguments
from tests.conftest import KEY_HEADER, OPERATOR_KEY, InferenceLog, MakeVendor, Serve, hosted_over
from tests.fakes.vendor import Vendor, failure, usage, words

HEADER = "x-grok-conv-id"


def ui(role: str, text: str) -> dict[str, Any]:
    """A message as useChat sends it."""
    return {"role": role, "id": f"msg-{text}", "parts": [{"type": "step-start"}, {"type": "text", "text": text}]}


FIRST, ANSWER, SECOND = ui("user", "Hi"), ui("assistant", "Hello"), ui("user", "And then?")
TURNS = [[FIRST], [FIRST, ANSWER, SECOND], [FIRST, ANSWER, SECOND, ANSWER, FIRST]]


def turn(caller: httpx.Client, number: int, **body: object) -> str:
    """Take this turn of the conversation; who served it."""
    answer = caller.post("/api/generate", json={"messages": TURNS[number], "stream": False, **body})
    return answer.raise_for_status().json()["provider"]


@pytest.fixture
def pair(make_vendor: MakeVendor) -> tuple[Vendor, Vendor]:
    """Two vendors: groq, who is asked first, and xai."""
    return make_vendor(), make_vendor()


@pytest.fixture
def url(serve: Serve, pair: tuple[Vendor, Vendor]) -> str:
    """The product over these two."""
    return serve(hosted_over(groq=pair[0], xai=pair[1]))


@pytest.mark.parametrize("named", [{"id": "chat-1"}, {}], ids=["by its id", "by its first messages"])
@pytest.mark.parametrize("headers", [KEY_HEADER, {}], ids=["key", "guest"])
def test_stays_where_it_was_served(
    url: str, pair: tuple[Vendor, Vendor], named: dict[str, str], headers: dict[str, str]
) -> None:
    """The provider that took over in the first turn serves the next ones; other callers' go where the plan says."""
    pair[0].script(failure(503))
    with httpx.Client(base_url=url, headers=headers) as caller, httpx.Client(base_url=url) as other:
        assert [turn(caller, number, **named) for number in range(3)] == ["xai"] * 3
        assert [turn(other, number, **named) for number in range(3)] == ["groq"] * 3
        assert turn(caller, 1, **named) == "xai"
        other.headers["authorization"] = f"Bearer {OPERATOR_KEY}"
        assert turn(other, 1, **named) == "groq"
    assert len(pair[0].requests) == 5


def test_begins_anew(url: str, pair: tuple[Vendor, Vendor]) -> None:
    """Who asks the same again, without saying that it is the same conversation, is not kept with who took over once."""
    pair[0].script(failure(503))
    with httpx.Client(base_url=url, headers=KEY_HEADER) as caller:
        assert [turn(caller, 0), turn(caller, 0), turn(caller, 1)] == ["xai", "groq", "groq"]


def test_choice_comes_before_custom(url: str, pair: tuple[Vendor, Vendor]) -> None:
    """A caller who names a provider gets it, in the middle of a conversation too; afterwards that one keeps it."""
    pair[0].script(failure(503))
    with httpx.Client(base_url=url, headers=KEY_HEADER) as caller:
        assert [turn(caller, 0), turn(caller, 1, provider="groq"), turn(caller, 2)] == ["xai", "groq", "groq"]


def test_who_fails_does_not_keep_it(url: str, pair: tuple[Vendor, Vendor]) -> None:
    """The one that served it last fails: the caller is answered all the same, and the other keeps it from then on."""
    pair[0].script(failure(503))
    pair[1].script(words("Hello"), failure(500))
    with httpx.Client(base_url=url, headers=KEY_HEADER) as caller:
        assert [turn(caller, number) for number in (0, 1, 2)] == ["xai", "groq", "groq"]


def test_conversation_header(url: str, pair: tuple[Vendor, Vendor]) -> None:
    """One vendor is told a name of the conversation, which stays and says nothing of ours; the other is told none."""
    pair[0].script(failure(503))
    with httpx.Client(base_url=url, headers=KEY_HEADER) as caller:
        for number in range(3):
            turn(caller, number, id="chat-of-somebody")
        turn(caller, 0, id="chat-of-another", provider="xai")
        turn(caller, 0, id="chat-of-somebody", provider="groq")
    names = [received.headers[HEADER] for received in pair[1].requests]
    assert (len(set(names[:3])), len(set(names))) == (1, 2)
    assert all("chat" not in name and "somebody" not in name for name in names)
    assert [received for received in pair[0].requests if HEADER in received.headers] == []


def test_prefix_of_the_next_turn(url: str, pair: tuple[Vendor, Vendor]) -> None:
    """The bytes of one turn's messages are those that the next turn's begin with, at every vendor."""
    with httpx.Client(base_url=url, headers=KEY_HEADER) as caller:
        for provider in ("groq", "xai"):
            for number in range(3):
                turn(caller, number, provider=provider, system="Be brief.", temperature=0.5, seed=7)
    for vendor in pair:
        bodies = [received.raw for received in vendor.requests]
        for body, following in itertools.pairwise(bodies):
            pairs = enumerate(zip(body, following, strict=False))
            shared = body[: next(index for index, (one, other) in pairs if one != other)]
            assert orjson.loads(shared + b"]}")["messages"] == orjson.loads(body)["messages"]


TEXTS = st.text(min_size=1, max_size=12).filter(str.strip)


def text_part(text: str) -> dict[str, Any]:
    """A part of a message that is text."""
    return {"type": "text", "text": text}


def either_style(role: str, text: str, parts: list[dict[str, Any]] | None) -> dict[str, Any]:
    """A message in the AI SDK's style where it has parts, else in OpenAI's."""
    return {"role": role, "content": text} if parts is None else {"role": role, "parts": [text_part(text), *parts]}


OTHER_PARTS: list[dict[str, Any]] = [
    {"type": "step-start"},
    {"type": "reasoning", "text": "Hm"},
    {"type": "data-x", "data": 1},
]
PARTS = st.lists(st.builds(text_part, TEXTS) | st.sampled_from(OTHER_PARTS), max_size=3)
MESSAGES = st.lists(
    st.builds(either_style, st.sampled_from(["user", "assistant"]), TEXTS, st.none() | PARTS), max_size=4
)
each_row = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


@each_row
@settings(max_examples=30, suppress_health_check=[HealthCheck.differing_executors])
@given(begun=MESSAGES, more=MESSAGES, shuffled=st.randoms(use_true_random=False))
def test_every_prefix(row: Row, begun: list[dict[str, Any]], more: list[dict[str, Any]], shuffled: Any) -> None:
    """However a conversation goes on, and in whatever order its fields come, what was sent of it stays as it was."""
    opening = [{"role": "user", "content": "Hi"}, *begun]
    anew = [dict(shuffled.sample(sorted(message.items()), len(message))) for message in [*opening, *more]]
    before, after = (messages_sent(messages, row) for messages in (opening, anew))
    assert after.startswith(before.removesuffix(b"]"))


def messages_sent(messages: list[dict[str, Any]], row: Row) -> bytes:
    """The messages of a vendor's request as JSON."""
    request = read_generate_request({"messages": messages}).chat()
    return orjson.dumps(request_arguments(request, Model("m", 8_192, 1_024), row)["messages"])


def test_what_the_cache_saved_is_on_record(url: str, pair: tuple[Vendor, Vendor], inference_log: InferenceLog) -> None:
    """The log line says how much of the prompt was cached, and what that saved; null where the vendor does not say."""
    pair[0].script(words("Hi", counted=usage(100_000, 3, cached_tokens=80_000)))
    with httpx.Client(base_url=url, headers=KEY_HEADER) as caller:
        turn(caller, 0)
    line = inference_log.next()
    assert (line["provider"], line["cached_tokens"]) == ("groq", 80_000)
    assert line["cache_saved_micro_usd"] == 3_000
    assert line["cost_micro_usd"] == round(20_000 * 0.075 + 80_000 * 0.0375 + 3 * 0.3)
