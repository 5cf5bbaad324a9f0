"""The chat-completions protocol: what vendors send becomes deltas, what goes wrong gets a name of ours."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, formatdate
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.errors import (
    BrokenStream,
    ContentRefused,
    ContextTooLong,
    CredentialsRejected,
    InvalidRequest,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
)
from lib.http.generate_request import read_generate_request
from lib.providers.base import ChatRequest, Delta, Model, Usage
from lib.providers.catalog import ROWS, Row
from lib.providers.chat import ChatStream, error_for, request_arguments, retry_after
from tests.fakes.openapi import violations
from tests.fakes.vendor import chunk, event, usage
from tests.lib.values import SCALARS, json_values

DONE = b"data: [DONE]\n\n"
BROKEN = b"data: {broken\n\n"
CANARY = "canary-of-a-prompt"
NOW = 1_795_000_000.0


def deltas(*events: bytes) -> list[Delta]:
    """What these bytes of a whole body say. Raises what is wrong with them."""
    stream = ChatStream()
    got: list[Delta] = []
    for data in events:
        got += stream.feed(data)
        if stream.error is not None:
            raise stream.error
    got += stream.close()
    if stream.error is not None:
        raise stream.error
    return got


def test_openai() -> None:
    """OpenAI's shape: a role, pieces, a finish reason, the usage alone, [DONE]."""
    counted = {**usage(12, 5, cached_tokens=4), "completion_tokens_details": {"reasoning_tokens": 2}}
    assert deltas(
        event(chunk({"role": "assistant", "content": ""}, usage=None)),
        event(chunk({"content": "Hel"})),
        event(chunk({"content": "lo 🌍"})),
        event(chunk({}, finish_reason="stop")),
        event(chunk(None, usage=counted)),
        DONE,
    ) == [
        Delta(text="Hel"),
        Delta(text="lo 🌍"),
        Delta(finish_reason="stop"),
        Delta(usage=Usage(12, 5, cached_tokens=4, reasoning_tokens=2)),
    ]


def test_groq() -> None:
    """Groq's shape: reasoning beside the text, usage in `x_groq` of the last chunk."""
    assert deltas(
        event(chunk({"role": "assistant", "content": ""}, x_groq={"id": "req"})),
        event(chunk({"reasoning": "Hmm", "channel": "analysis"})),
        event(chunk({"content": "Yes"}, x_groq=None)),
        event(chunk({}, finish_reason="length", x_groq={"id": "req", "usage": usage(7, 3)})),
        DONE,
    ) == [Delta(reasoning="Hmm"), Delta(text="Yes"), Delta(finish_reason="length", usage=Usage(7, 3))]


def test_groq_with_usage_in_both_places() -> None:
    """Asked for usage, Groq tells it twice: once in `x_groq`, once as OpenAI does; both count alike."""
    got = deltas(
        event(chunk({}, finish_reason="stop", x_groq={"id": "req", "usage": usage(7, 3)})),
        event(chunk(None, usage=usage(7, 3))),
        DONE,
    )
    assert [delta.usage for delta in got] == [Usage(7, 3), Usage(7, 3)]


def test_reasoning_content() -> None:
    """DeepInfra's and xAI's shape: the reasoning is called `reasoning_content`, usage comes with the finish reason."""
    details = {"prompt_tokens_details": None, "completion_tokens_details": None}
    counted = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, **details}
    assert deltas(
        event(chunk({"role": "assistant", "content": None, "reasoning_content": "Hm"})),
        event(chunk({"content": "Yes", "reasoning_content": None, "tool_calls": None})),
        event(chunk({"content": ""}, finish_reason="stop", usage=counted)),
        DONE,
    ) == [Delta(reasoning="Hm"), Delta(text="Yes"), Delta(finish_reason="stop", usage=Usage(7, 3))]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("eos", "other"),
    ],
)
def test_finish_reasons(theirs: str, ours: str) -> None:
    """A finish reason that we do not know is still a finish."""
    assert [delta.finish_reason for delta in deltas(event(chunk({}, finish_reason=theirs)))] == [ours]


@pytest.mark.parametrize("tail", [[event(chunk({}, finish_reason="stop"))], [DONE], [DONE[:-2]]])
def test_complete(tail: list[bytes]) -> None:
    """A finish reason without [DONE], or [DONE] without a finish reason, completes the answer."""
    assert deltas(event(chunk({"content": "Hi"})), *tail)[0] == Delta(text="Hi")


@pytest.mark.parametrize(
    "events",
    [
        [],
        [b": ping\n\n"],
        [event(chunk({"content": "Hi"}))],
        [event(chunk(None, usage=usage()))],
        [event(chunk({"content": "Hi"}, finish_reason="stop"))[:-8]],
        [b"data: [DON"],
    ],
    ids=["nothing", "heartbeat", "text", "usage", "cut finish", "cut [DONE]"],
)
def test_incomplete(events: list[bytes]) -> None:
    """A body that ends before the vendor said so is never taken for a whole answer."""
    with pytest.raises(BrokenStream):
        deltas(*events)


@pytest.mark.parametrize("blank", ["", {}, False], ids=["empty", "object", "false"])
def test_no_finish_reason(blank: object) -> None:
    """A blank finish reason, as some compatible servers send with every piece, does not complete an answer."""
    with pytest.raises(BrokenStream):
        deltas(event(chunk({"content": "Half of the ans"}, finish_reason=blank)))


def test_one_malformed_event_is_skipped() -> None:
    """One event that can't be read is skipped and counted; what is around it arrives."""
    stream = ChatStream()
    assert stream.feed(event(chunk({"content": "a"})) + BROKEN + event(chunk({"content": "b"}))) == [
        Delta(text="a"),
        Delta(text="b"),
    ]
    assert stream.malformed == 1


def test_second_malformed_event_breaks_the_stream() -> None:
    """Two events that can't be read mean that the stream makes no sense."""
    with pytest.raises(BrokenStream):
        deltas(BROKEN, event(chunk({"content": "a"})), BROKEN, DONE)


@pytest.mark.parametrize("fault", [BROKEN * 2, event({"error": {"code": 500}}), b"data: " + b"x" * 300_000])
def test_what_came_before_a_failure(fault: bytes) -> None:
    """What a vendor said before it failed is not lost, also where both came in one piece; nothing after it counts."""
    stream = ChatStream()
    assert stream.feed(event(chunk({"content": "a"}))) == [Delta(text="a")]
    assert stream.error is None
    before = [] if len(fault) > 1000 else [Delta(text="b")]
    assert stream.feed((event(chunk({"content": "b"})) if before else b"") + fault + b"\n\n" + DONE) == before
    assert stream.error is not None
    assert str(stream.error) in {"broken_stream", "provider_unavailable"}


def test_nul_in_the_text() -> None:
    """A NUL that a model wrote is left out: the caller could neither store it nor send it back."""
    assert deltas(event(chunk({"content": "a\0b", "reasoning": "\0"})), DONE) == [Delta(text="ab")]


UNREADABLE: list[object] = [
    None,
    [],
    7,
    "text",
    {"choices": 7},
    {"choices": {"0": {}}},
    {"choices": ["text"]},
    {"choices": [None]},
    {"choices": [{"delta": "text"}]},
    chunk({"content": 7}),
    chunk({"content": ["text"]}),
    chunk({"reasoning": {"text": "Hm"}}),
]
ODD_COUNTS: list[dict[str, object]] = [
    {"usage": 7},
    {"usage": {"total_tokens": 7}},
    {"usage": {"prompt_tokens": "many", "completion_tokens": 1}},
    {"usage": {**usage(), "prompt_tokens_details": [7]}},
    {"x_groq": "req"},
]


@pytest.mark.parametrize("counted", ODD_COUNTS)
def test_odd_counts_cost_no_text(counted: dict[str, object]) -> None:
    """Counts that make no sense are as good as untold; the text beside them arrives."""
    stream = ChatStream()
    assert stream.feed(event(chunk({"content": "a"}, **counted))) == [Delta(text="a")]
    assert stream.malformed == 0


def test_nothing_after_the_last_word() -> None:
    """What follows [DONE] is not part of the answer, be it text or an error."""
    stream = ChatStream()
    late = event(chunk({"content": "late"})) + event({"error": {"code": "server_error"}})
    assert stream.feed(event(chunk({"content": "a"})) + DONE + late) == [Delta(text="a")]
    assert stream.done
    assert stream.error is None


@pytest.mark.parametrize("data", UNREADABLE)
def test_event_of_a_wrong_shape(data: object) -> None:
    """An event of a shape that makes no sense is one that can't be read: skipped once, and counted."""
    stream = ChatStream()
    assert stream.feed(event(data) + event(chunk({"content": "b"}))) == [Delta(text="b")]
    assert stream.malformed == 1


EMPTY: list[object] = [
    {},
    {"choices": []},
    {"choices": None},
    {"choices": [{}]},
    {"choices": [{"delta": None, "finish_reason": None}]},
    chunk({"role": "assistant", "content": None}),
    chunk({"content": "", "reasoning": ""}),
    chunk(None, usage=None, x_groq={}),
]


@pytest.mark.parametrize("data", EMPTY)
def test_event_without_anything_for_us(data: object) -> None:
    """An event may hold nothing that we need; that is no mistake."""
    stream = ChatStream()
    assert stream.feed(event(data) * 5) == []
    assert stream.malformed == 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": CANARY}, Overloaded),
        ({"message": CANARY, "code": "server_error"}, Overloaded),
        ({"message": CANARY, "code": 429}, RateLimited),
        ({"message": CANARY, "code": 400}, RequestRejected),
        ({"message": CANARY, "code": 400, "type": "exceed_context_size_error"}, ContextTooLong),
        ({"message": CANARY, "code": "rate_limit_exceeded"}, RateLimited),
        ({"message": CANARY, "code": None, "type": "insufficient_quota"}, QuotaExhausted),
        ({"message": CANARY, "code": "context_length_exceeded"}, ContextTooLong),
        ({"message": CANARY, "code": [CANARY], "type": {CANARY: 1}}, Overloaded),
        (CANARY, Overloaded),
        ([CANARY], Overloaded),
        (True, Overloaded),
    ],
)
def test_error_in_the_stream(error: object, kind: type[ProviderError]) -> None:
    """An error object inside a 200 stream gets its name by code or status; the vendor's words stay out of it."""
    with pytest.raises(ProviderError) as caught:
        deltas(event(chunk({"content": "Hi"})), event({"error": error}))
    assert type(caught.value) is kind
    assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.args} {vars(caught.value)}"


def test_null_error_is_none() -> None:
    """`error: null` beside the choices, as some vendors send it, is no error."""
    assert deltas(event(chunk({"content": "Hi"}, error=None)), DONE) == [Delta(text="Hi")]


KEYS = st.sampled_from(
    [
        *("choices", "delta", "content", "reasoning", "reasoning_content", "finish_reason", "usage", "x_groq", "error"),
        *("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details", "cached_tokens"),
        *("code", "type", "reasoning_tokens", "0"),
    ]
)
ANY_JSON = json_values(KEYS)


COUNTS = st.fixed_dictionaries(
    {"prompt_tokens": SCALARS, "completion_tokens": SCALARS | ANY_JSON},
    optional={
        "prompt_tokens_details": SCALARS | st.fixed_dictionaries({"cached_tokens": SCALARS | ANY_JSON}),
        "completion_tokens_details": st.none() | st.fixed_dictionaries({"reasoning_tokens": SCALARS}),
    },
)
PIECES = st.fixed_dictionaries(
    {"content": st.text(max_size=4)}, optional={"reasoning": SCALARS | ANY_JSON, "reasoning_content": SCALARS}
)
CHOICES = st.fixed_dictionaries({"delta": PIECES | SCALARS}, optional={"finish_reason": SCALARS | ANY_JSON})
ALMOST_CHUNKS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES | SCALARS, max_size=2) | SCALARS},
    optional={
        "usage": COUNTS | ANY_JSON,
        "x_groq": st.fixed_dictionaries({"usage": COUNTS | SCALARS}) | SCALARS,
        "error": SCALARS | ANY_JSON,
    },
)


@settings(max_examples=100)
@given(st.lists(ALMOST_CHUNKS | ANY_JSON, min_size=1, max_size=3))
@example([{"usage": {"prompt_tokens": float("1e308"), "completion_tokens": 1}, "choices": []}])
@example([{"choices": {"0": 1}}, None])
def test_wrong_types(events: list[object]) -> None:
    """Whatever JSON a vendor sends, what comes out are deltas of the right types or a ProviderError."""
    try:
        got = deltas(*map(event, events), DONE)
    except ProviderError:
        return
    for delta in got:
        assert isinstance(delta.text, str)
        assert isinstance(delta.reasoning, str)
        assert delta.finish_reason in {None, "stop", "length", "content_filter", "tool_calls", "other"}
        assert delta.usage is None or isinstance(delta.usage.input_tokens, int)
        assert delta != Delta()


@given(st.lists(st.binary(max_size=30) | st.sampled_from([DONE, BROKEN, b"\n\n", b"data: "]), max_size=6))
def test_any_bytes(chunks: list[bytes]) -> None:
    """Whatever bytes a vendor sends, nothing but a ProviderError is raised, and no half of a delta is made."""
    with suppress(ProviderError):
        assert Delta() not in deltas(*chunks)


@pytest.mark.parametrize(
    "counted",
    [
        {"prompt_tokens": -7, "completion_tokens": 3},
        {"prompt_tokens": 7, "completion_tokens": -3},
        {"prompt_tokens": 1e30, "completion_tokens": 3},
        {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens": 7, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 1e30}},
    ],
    ids=["negative input", "negative output", "huge input", "negative cached", "huge reasoning"],
)
def test_absurd_counts(counted: dict[str, object]) -> None:
    """Counts that no vendor can mean are not believed: they would price wrongly, and no log line could hold them."""
    got = deltas(event(chunk({"content": "Hi"}, finish_reason="stop")), event(chunk(None, usage=counted)), DONE)
    for told in [delta.usage for delta in got if delta.usage is not None]:
        numbers = (told.input_tokens, told.output_tokens, told.cached_tokens, told.reasoning_tokens)
        assert all(0 <= number < 2**53 for number in numbers)


BY_STATUS: dict[int, type[ProviderError]] = {
    **dict.fromkeys(range(400, 600), Overloaded),
    **dict.fromkeys((400, 413, 422), RequestRejected),
    **dict.fromkeys((401, 403), CredentialsRejected),
    402: QuotaExhausted,
    **dict.fromkeys((404, 410), ModelUnavailable),
    429: RateLimited,
}
BY_CODE: dict[str, type[ProviderError]] = {
    "context_length_exceeded": ContextTooLong,
    "exceed_context_size_error": ContextTooLong,
    "content_filter": ContentRefused,
    "content_policy_violation": ContentRefused,
    "insufficient_quota": QuotaExhausted,
    "invalid_api_key": CredentialsRejected,
    "model_not_found": ModelUnavailable,
    "model_decommissioned": ModelUnavailable,
    "rate_limit_exceeded": RateLimited,
}


@pytest.mark.parametrize("status", range(400, 600))
def test_error_by_status(status: int) -> None:
    """Every status has its error, and a body that says nothing to us changes nothing."""
    for body in (None, {"code": "never heard of"}, {"error": {"code": 17, "type": ["a"]}}):
        error = error_for(status, body, {}, NOW)
        assert (type(error), error.status, error.retry_after_s) == (BY_STATUS[status], status, None)


@pytest.mark.parametrize("code", BY_CODE)
@pytest.mark.parametrize("status", [None, 400, 429, 503])
def test_error_by_code(status: int | None, code: str) -> None:
    """A code that we know says more than the status does."""
    for body in ({"code": code}, {"type": code}, {"error": {"code": status, "type": code}}, {"error": {"code": code}}):
        assert type(error_for(status, body, {}, NOW)) is BY_CODE[code]


@pytest.mark.parametrize("status", [None, 0, 200, 302, 600, -1])
def test_error_of_an_odd_status(status: int | None) -> None:
    """A status that is no error status is the vendor's failure, so another may be asked."""
    assert type(error_for(status, None, {}, NOW)) is Overloaded


@given(ANY_JSON, st.none() | st.integers())
def test_any_error_body(body: object, status: int | None) -> None:
    """Whatever an error body holds, it gets a name of ours."""
    error = error_for(status, body, {}, NOW)
    assert str(error) == error.code


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("-7", 0.0),
        ("-inf", 0.0),
        ("inf", None),
        ("1e999", None),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("7 seconds", None),
        (formatdate(NOW + 30, usegmt=True), 30.0),
        (format_datetime(datetime.fromtimestamp(NOW + 30, UTC).astimezone(), usegmt=False), 30.0),
        (formatdate(NOW - 30, usegmt=True), 0.0),
        ("Wed, 32 Oct 2026 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2026 07:28:00 " + "9" * 40, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Seconds and HTTP dates are understood, the past is now, and what is neither is nothing."""
    assert retry_after(value, NOW) == seconds


@given(st.text(max_size=40) | st.floats().map(str) | st.integers().map(str))
def test_any_retry_after(value: str) -> None:
    """No header upsets us, and a wait is a number of seconds that can pass."""
    seconds = retry_after(value, NOW)
    assert seconds is None or 0 <= seconds < float("inf")


@given(st.timedeltas(timedelta(days=-10), timedelta(days=300)))
def test_retry_after_date_agrees_with_seconds(wait: timedelta) -> None:
    """A date is the same wait as its seconds from now."""
    seconds = retry_after(formatdate(NOW + wait.total_seconds(), usegmt=True), NOW)
    assert seconds == pytest.approx(max(wait.total_seconds(), 0), abs=1)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=12).filter(
    lambda text: text.strip() != "" and any(not character.isspace() for character in text)
)
IMAGE = st.sampled_from(["https://example.com/a.png", "data:image/png;base64,iVBORw0KGgo="])
UI_PART = st.one_of(
    TEXT.map(lambda text: {"type": "text", "text": text}),
    IMAGE.map(lambda url: {"type": "file", "mediaType": "image/png", "url": url}),
    st.just({"type": "step-start"}),
)
OPENAI_PART = st.one_of(
    TEXT.map(lambda text: {"type": "text", "text": text}),
    IMAGE.map(lambda url: {"type": "image_url", "image_url": {"url": url, "detail": "low"}}),
)
ROLE = st.sampled_from(["system", "assistant"])
MESSAGE = st.one_of(
    st.fixed_dictionaries({"role": ROLE | st.sampled_from(["developer", "user"]), "content": TEXT}),
    st.fixed_dictionaries({"role": st.just("user"), "content": st.lists(OPENAI_PART, min_size=1, max_size=3)}),
    st.fixed_dictionaries(
        {"role": ROLE, "parts": st.lists(TEXT.map(lambda text: {"type": "text", "text": text}), min_size=1, max_size=2)}
    ),
    st.fixed_dictionaries(
        {
            "role": st.just("user"),
            "parts": st.lists(UI_PART, min_size=1, max_size=3).map(
                lambda parts: [{"type": "text", "text": "x"}, *parts]
            ),
        }
    ),
)
SCHEMA = st.fixed_dictionaries(
    {"name": st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), "schema": st.just({"type": "object"})},
    optional={"strict": st.none() | st.booleans(), "description": st.none() | TEXT},
)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "system": TEXT,
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1, exclude_min=True),
    "max_tokens": st.integers(1, 16_384),
    "stop": TEXT | st.lists(TEXT, min_size=1, max_size=4),
    "seed": st.integers(0, 2**63 - 1),
    "response_format": SCHEMA.map(lambda schema: {"type": "json_schema", "json_schema": schema}),
    "reasoning_effort": st.sampled_from(["low", "medium", "high"]),
}
CHAT_REQUESTS: st.SearchStrategy[ChatRequest] = st.one_of(
    st.fixed_dictionaries({"prompt": TEXT}, optional=OPTIONS),
    st.fixed_dictionaries(
        {"messages": st.lists(MESSAGE, max_size=4).map(lambda rest: [{"role": "user", "content": "Hi"}, *rest])},
        optional=OPTIONS,
    ),
).map(lambda body: read_generate_request(body).chat())
SERVED = [(row, model) for row in ROWS for model in row.models]


@settings(max_examples=12)
@pytest.mark.parametrize(("row", "model"), SERVED, ids=[f"{row.name}/{model.id}" for row, model in SERVED])
@given(request=CHAT_REQUESTS)
def test_requests_fit_the_description(row: Row, model: Model, request: ChatRequest) -> None:
    """Whatever a caller may send becomes a body that fits OpenAI's published description, for every vendor."""
    arguments = request_arguments(request, model, row)
    assert violations("/chat/completions", arguments) == []
    assert json.loads(json.dumps(arguments)) == arguments
    assert arguments["stream"] is True
    assert None not in arguments.values()
    assert ("reasoning_effort" in arguments) == (request.reasoning_effort is not None and "reasoning" in model.can)


PICTURE = "https://example.com/a.png"


def test_picture_drawn_earlier_in_the_chat() -> None:
    """A picture in an answer that the AI SDK sends back does not stop the chat: vendors take users' pictures only."""
    drawn = {"role": "assistant", "parts": [{"type": "file", "mediaType": "image/png", "url": PICTURE}]}
    body = {"messages": [{"role": "user", "content": "Draw"}, drawn, {"role": "user", "content": "And now?"}]}
    request = read_generate_request(body).chat()
    assert violations("/chat/completions", request_arguments(request, ROWS[1].models[0], ROWS[1])) == []


@pytest.mark.parametrize("role", ["assistant", "system", "developer"])
def test_picture_of_a_wrong_role(role: str) -> None:
    """A picture outside a user's message is refused or left out, but never sent on: no vendor takes it there."""
    pictured = {"role": role, "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}
    with suppress(InvalidRequest):
        request = read_generate_request({"messages": [pictured, {"role": "user", "content": "Hi"}]}).chat()
        assert violations("/chat/completions", request_arguments(request, ROWS[1].models[0], ROWS[1])) == []


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_answer_length_is_bounded_by_the_model(row: Row) -> None:
    """A vendor is never asked for more than its model can write, in the field that the vendor reads."""
    model = row.models[0]
    fields = ["max_tokens", "max_completion_tokens"]
    short, long = (
        request_arguments(ChatRequest(({"role": "user", "content": "Hi"},), tokens), model, row)
        for tokens in (5, 10**9)
    )
    assert [short[field] for field in fields if field in short] == [5]
    assert [long[field] for field in fields if field in long] == [model.max_output_tokens]
    assert row.max_tokens_field in short


def test_unset_is_left_out() -> None:
    """What the caller does not set is not sent."""
    request = ChatRequest(({"role": "user", "content": "Hi"},), 5)
    assert set(request_arguments(request, ROWS[0].models[0], ROWS[0])) == {
        "model",
        "messages",
        "stream",
        "max_completion_tokens",
    }
