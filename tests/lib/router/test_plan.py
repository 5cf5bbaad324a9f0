"""The plan: who is asked, in which order, as a pure function."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import AppError, FieldError, InvalidRequest, NoProvider
from lib.providers.base import Capability, ChatRequest, Model
from lib.providers.catalog import ROWS, Row
from lib.router.plan import Choice, ProviderFlag, make_plan, renamed

ALL = frozenset(row.name for row in ROWS)
HOSTED = ALL - {"local"}
PLAIN = ChatRequest(({"role": "user", "content": "Hi"},), 16)
SCHEMA: dict[str, object] = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
STRUCTURED = ChatRequest(PLAIN.messages, 16, response_format=SCHEMA)
PICTURE = ChatRequest(({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]},), 16)
TOOLS: tuple[dict[str, object], ...] = ({"type": "function", "function": {"name": "x"}},)
CALLING = ChatRequest(PLAIN.messages, 16, tools=TOOLS)
CALLED = ChatRequest(
    (
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "function": {"name": "x", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ),
    16,
)
NO_FLAG, NO_CHOICE = ProviderFlag(), Choice()


def plan(
    flag: ProviderFlag = NO_FLAG,
    choice: Choice = NO_CHOICE,
    request: ChatRequest = PLAIN,
    on: frozenset[str] = ALL,
    rows: tuple[Row, ...] = ROWS,
    order: tuple[str, ...] = (),
) -> list[str]:
    """The plan as provider/model, best first."""
    candidates = make_plan(flag, choice, request, rows, on, order)
    return [f"{candidate.provider}/{candidate.model.id}" for candidate in candidates]


def providers(candidates: list[str]) -> list[str]:
    """Their providers alone."""
    return [candidate.partition("/")[0] for candidate in candidates]


def row(name: str, *can: Capability, demo: bool = False, strong: str | None = None) -> Row:
    """A made-up vendor of two models: `<name>-small` and `<name>-large`, or another strong one."""
    models = tuple(Model(f"{name}-{size}", 8_192, 1_024, frozenset(can)) for size in ("small", "large"))
    return Row(name, name, "openai", f"{name.upper()}_URL", models, models[0].id, strong or models[1].id, demo=demo)


def test_catalogue_order() -> None:
    """Without a flag the catalogue's order holds, each vendor with its fast model."""
    assert plan() == [f"{row.name}/{row.fast}" for row in ROWS if not row.demo]


@pytest.mark.parametrize("name", sorted(HOSTED))
def test_flag_is_first(name: str) -> None:
    """The flag's provider comes first, the others follow in the catalogue's order."""
    rest = [row.name for row in ROWS if row.name in HOSTED and row.name != name]
    assert providers(plan(ProviderFlag(provider=name))) == [name, *rest]


def test_flag_names_the_model() -> None:
    """The flag's model is its provider's alone; the others keep their fast one."""
    got = plan(ProviderFlag(provider="xai", model="grok-4.7"))
    assert got[:2] == ["xai/grok-4.7", "groq/openai/gpt-oss-20b"]


@pytest.mark.parametrize(("model", "id_"), [("fast", "openai/gpt-oss-20b"), ("strong", "openai/gpt-oss-120b")])
def test_flag_says_fast_or_strong(model: str, id_: str) -> None:
    """`fast` and `strong` are names of models for a flag too."""
    assert plan(ProviderFlag(provider="groq", model=model))[0] == f"groq/{id_}"


def test_flag_names_a_model_newer_than_the_catalogue() -> None:
    """An unlisted model is asked for as the flag says, with low limits, and trusted with nothing special."""
    flag = ProviderFlag(provider="groq", model="brand/new")
    first = make_plan(flag, NO_CHOICE, PLAIN, ROWS, ALL)[0]
    assert (first.model.id, first.model.can) == ("brand/new", frozenset())
    assert first.model.max_output_tokens <= 4_096
    assert providers(plan(flag, request=STRUCTURED)) == ["xai", "deepinfra"]


@pytest.mark.parametrize("flag", [ProviderFlag(provider="nobody"), ProviderFlag(provider="xai", model="grok-4.7")])
def test_flag_that_can_not_be_followed(flag: ProviderFlag) -> None:
    """A flag that names an unknown provider, or one that is off, costs nobody the answer."""
    assert plan(flag, on=ALL - {"xai"}) == plan(on=ALL - {"xai"})


def test_off_is_left_out() -> None:
    """A provider that is off is not asked."""
    assert providers(plan(on=frozenset({"deepinfra", "local"}))) == ["deepinfra"]


def test_demo_model_serves_when_it_is_alone() -> None:
    """The embedded model answers where no hosted vendor is on."""
    assert providers(plan(on=frozenset({"local"}))) == ["local"]


def test_demo_model_by_flag() -> None:
    """The flag may put the embedded model first, even with hosted vendors behind it."""
    assert providers(plan(ProviderFlag(provider="local"))) == ["local", "groq", "xai", "deepinfra"]


def test_demo_model_by_choice() -> None:
    """A caller may ask for the embedded model by its provider's or its own name."""
    assert providers(plan(choice=Choice(provider="local"))) == ["local"]
    assert providers(plan(choice=Choice(model="smollm2-135m-instruct"))) == ["local"]


@pytest.mark.parametrize("word", ["fast", "strong"])
def test_demo_model_is_neither_fast_nor_strong_beside_hosted_ones(word: str) -> None:
    """Who asks for a fast or a strong model did not ask for the toy, while hosted vendors are on."""
    assert providers(plan(choice=Choice(model=word))) == ["groq", "xai", "deepinfra"]


@pytest.mark.parametrize(("word", "size"), [("fast", "small"), ("strong", "large")])
def test_chosen_fast_and_strong(word: str, size: str) -> None:
    """A caller's `fast` and `strong` mean each provider's own."""
    rows = (row("a"), row("b"))
    assert plan(choice=Choice(model=word), rows=rows, on=frozenset({"a", "b"})) == [f"a/a-{size}", f"b/b-{size}"]


@pytest.mark.parametrize("request_", [CALLING, CALLED])
def test_tools(request_: ChatRequest) -> None:
    """Who can't call tools is not asked where there are any, or where some were called before."""
    rows = (row("a"), row("b", "tools"))
    assert plan(request=request_, rows=rows, on=frozenset({"a", "b"})) == ["b/b-small"]
    assert plan(rows=rows, on=frozenset({"a", "b"})) == ["a/a-small", "b/b-small"]
    with pytest.raises(InvalidRequest) as caught:
        plan(request=request_, rows=rows, on=frozenset({"a"}))
    assert caught.value.code == "capability_missing"
    assert caught.value.errors == (FieldError("tools", "needs tools"),)


def test_tools_of_the_catalogue() -> None:
    """Every hosted vendor calls tools, the embedded model does not; together with a schema only some do."""
    assert providers(plan(request=CALLING)) == [row.name for row in ROWS if not row.demo]
    both = ChatRequest(PLAIN.messages, 16, tools=TOOLS, response_format=SCHEMA)
    assert providers(plan(request=both)) == ["xai"]


def test_chosen_provider_is_asked_alone() -> None:
    """A chosen provider is not replaced by another, whatever the flag says."""
    assert plan(ProviderFlag(provider="groq"), Choice(provider="xai")) == ["xai/grok-4.20-0309-non-reasoning"]


def test_chosen_model_goes_to_all_who_offer_it() -> None:
    """A chosen model is looked for at every vendor that is on, whatever the flag says."""
    got = plan(ProviderFlag(provider="xai"), Choice(model="openai/gpt-oss-120b"))
    assert got == ["groq/openai/gpt-oss-120b", "deepinfra/openai/gpt-oss-120b"]


def test_chosen_provider_and_model() -> None:
    """Both chosen: that model of that provider, nothing else."""
    assert plan(choice=Choice("deepinfra", "openai/gpt-oss-120b")) == ["deepinfra/openai/gpt-oss-120b"]


SECRET = "sk-canary-of-a-caller"


@pytest.mark.parametrize(
    ("choice", "path"),
    [
        (Choice(provider=SECRET), "provider"),
        (Choice(provider="xai"), "provider"),
        (Choice(provider=SECRET, model=SECRET), "provider"),
        (Choice(model=SECRET), "model"),
        (Choice(model="grok-4.7"), "model"),
        (Choice(provider="groq", model="grok-4.7"), "model"),
    ],
)
def test_choice_that_can_not_be_met(choice: Choice, path: str) -> None:
    """A choice that can't be met is refused, naming the field and not repeating its value."""
    with pytest.raises(InvalidRequest) as caught:
        plan(choice=choice, on=frozenset({"groq"}))
    assert [error.path for error in caught.value.errors] == [path]
    assert SECRET not in f"{caught.value.message} {caught.value.errors}"


def test_refused_provider_is_told_who_is_on() -> None:
    """Who asks for a provider that is off learns which are on."""
    with pytest.raises(InvalidRequest) as caught:
        plan(choice=Choice(provider="xai"), on=frozenset({"groq", "deepinfra"}))
    assert caught.value.errors == (FieldError("provider", "is not on here; on: groq, deepinfra"),)


def test_models_that_can_not_are_left_out() -> None:
    """Only models that can do what the request needs are asked."""
    assert providers(plan(request=PICTURE)) == ["xai"]
    rows = (row("a"), row("b", "json_schema"), row("c", "json_schema", "vision"))
    on = frozenset({"a", "b", "c"})
    assert providers(plan(request=STRUCTURED, rows=rows, on=on)) == ["b", "c"]
    both = ChatRequest(PICTURE.messages, 16, response_format=SCHEMA)
    assert providers(plan(request=both, rows=rows, on=on)) == ["c"]


@pytest.mark.parametrize("choice", [NO_CHOICE, Choice(provider="groq"), Choice(model="fast")])
def test_capability_that_nobody_has(choice: Choice) -> None:
    """Where those who are on lack what it takes, the caller learns what is missing."""
    with pytest.raises(InvalidRequest) as caught:
        plan(choice=choice, request=PICTURE, on=frozenset({"groq"}))
    assert caught.value.code == "capability_missing"
    assert "vision" in caught.value.message


def sized(*sizes: int, output: int = 100) -> tuple[Row, ...]:
    """Made-up vendors a, b, c… of one model each, with these contexts."""
    models = [Model(f"m{number}", size, output) for number, size in enumerate(sizes)]
    return tuple(
        Row(name, name, "openai", "", (model,), model.id, model.id)
        for name, model in zip("abcdef", models, strict=False)
    )


def worded(words: int, max_tokens: int = 100) -> ChatRequest:
    """A request of so many words, in messages of both shapes."""
    half = words // 2
    content = [{"type": "text", "text": "word  " * (words - half)}]
    return ChatRequest(
        ({"role": "user", "content": " word\n" * half}, {"role": "user", "content": content}), max_tokens
    )


SEES = frozenset[Capability]({"vision"})


@pytest.mark.parametrize(
    ("words", "max_tokens", "fits"),
    [
        (900, 100, "abc"),
        (901, 100, "bc"),
        (901, 99, "abc"),
        (901, 5_000, "bc"),
        (2_900, 1, "bc"),
        (2_999, 1, "bc"),
        (3_000, 1, "c"),
        (1_048_476, 100, "c"),
    ],
)
def test_too_small_contexts_are_left_out(words: int, max_tokens: int, fits: str) -> None:
    """Who can't hold the words and the answer is not asked; an answer is never longer than its model's longest."""
    rows = tuple(
        replace(row, models=tuple(replace(model, can=SEES) for model in row.models))
        for row in sized(1_000, 3_000, 1_048_576)
    )
    got = plan(request=worded(words, max_tokens), rows=rows, on=frozenset("abc"))
    assert "".join(providers(got)) == fits


@pytest.mark.parametrize("choice", [NO_CHOICE, Choice(provider="b"), Choice(model="m1")])
def test_nobody_can_hold_it(choice: Choice) -> None:
    """Where no context is large enough the caller is told so before anyone is asked, and by how much."""
    request = ChatRequest(({"role": "user", "content": "word " * 2_001},), 1_000)
    with pytest.raises(InvalidRequest) as caught:
        plan(choice=choice, request=request, rows=sized(1_000, 2_000), on=frozenset("ab"))
    assert (caught.value.status, caught.value.code) == (422, "context_length_exceeded")
    assert "2001 tokens" in caught.value.message
    assert "1900 are left" in caught.value.message


def test_size_that_is_not_known_leaves_nobody_out() -> None:
    """A model that the catalogue does not know is asked whatever the length: its size is a guess."""
    flag = ProviderFlag(provider="a", model="brand/new")
    request = ChatRequest(({"role": "user", "content": "word " * 50_000},), 1_000)
    assert plan(flag, request=request, rows=sized(1_000, 2_000), on=frozenset("ab")) == ["a/brand/new"]


def test_fallback_order() -> None:
    """The operator's order comes after the flag's provider; whom it does not name follow in the catalogue's."""
    rows, on = sized(9_000, 9_000, 9_000, 9_000), frozenset("abcd")
    for flag, order, expected in (
        (None, ("c", "b"), "cbad"),
        ("d", ("c", "b"), "dcba"),
        ("b", ("c", "b"), "bcad"),
        (None, ("nobody", "d"), "dabc"),
        (None, (), "abcd"),
    ):
        assert "".join(providers(plan(ProviderFlag(provider=flag), rows=rows, on=on, order=order))) == expected
    chosen = plan(choice=Choice(model="fast"), rows=rows, on=on, order=("c",))
    assert "".join(providers(chosen)) == "cabd"


def test_other_models_behind_the_words() -> None:
    """`fast`, which is also the default, and `strong` may stand for other models of one provider, new ones included."""
    rows = renamed((row("a"), row("b")), "a/newer/one", "b/b-small")
    on = frozenset({"a", "b"})
    assert plan(on=on, rows=rows) == ["a/newer/one", "b/b-small"]
    assert plan(choice=Choice(model="fast"), on=on, rows=rows) == ["a/newer/one", "b/b-small"]
    assert plan(choice=Choice(model="strong"), on=on, rows=rows) == ["a/a-large", "b/b-small"]
    assert plan(choice=Choice(model="a-small"), on=on, rows=rows) == ["a/a-small"]
    assert rows[0].model("newer/one") == Model("newer/one", 8_192, 4_096, guessed=True)


@pytest.mark.parametrize("route", [None, "", "c/c-small", "a", "a/"])
def test_words_that_stay(route: str | None) -> None:
    """Nothing named, or a provider that is not there, leaves the catalogue as it is."""
    rows = (row("a"), row("b"))
    assert renamed(rows, route, route) == rows


def test_nobody_is_on() -> None:
    """Without any provider the answer is 503, and says where to look."""
    with pytest.raises(NoProvider) as caught:
        plan(on=frozenset())
    assert "/api/health" in caught.value.message


def test_public_flag() -> None:
    """The flag as answers show it leaves out what is not set."""
    experiment = {"name": "feature_ai_provider", "arm": "xai", "provider": "xai"}
    assert ProviderFlag(arm="xai", provider="xai").public() == [experiment]
    gated = ProviderFlag(arm="groq", provider="groq", model="m", gate="g", gate_arm="treatment")
    assert gated.public()[1] == {"name": "g", "arm": "treatment", "model": "m"}
    assert ProviderFlag(provider="xai").public() == []


@pytest.mark.parametrize("killed", ["groq", "xai"])
def test_killed(killed: str) -> None:
    """A killed provider is asked by nobody, whoever names it: flag, order or caller."""
    flag = ProviderFlag(provider="groq", killed=frozenset({killed}))
    assert [name.split("/")[0] for name in plan(flag)] == [
        name for name in ("groq", "xai", "deepinfra") if name != killed
    ]
    with pytest.raises(InvalidRequest):
        plan(flag, choice=Choice(provider=killed))


def test_demo_model_does_not_stand_in_for_a_killed_vendor() -> None:
    """With the only hosted vendor killed nobody answers: not the demo model, whose answer would hide it."""
    with pytest.raises(NoProvider):
        plan(ProviderFlag(killed=frozenset({"groq"})), on=frozenset({"groq", "local"}))


def test_flag_sets_the_effort_of_its_own_candidate() -> None:
    """How hard a model is to think is said for the flag's candidate, and not for those behind it."""
    flag = ProviderFlag(provider="groq", model="openai/gpt-oss-120b", reasoning_effort="medium")
    first, *others = make_plan(flag, NO_CHOICE, PLAIN, ROWS, ALL)
    assert (first.model.id, first.reasoning_effort) == ("openai/gpt-oss-120b", "medium")
    assert {other.reasoning_effort for other in others} == {None}


NAMES = st.sampled_from([*sorted(ALL), "nobody"])
MODELS = st.sampled_from(["fast", "strong", "no-such-model", *(model.id for row in ROWS for model in row.models)])


@given(
    flag=st.builds(ProviderFlag, provider=st.none() | NAMES, model=st.none() | MODELS),
    choice=st.builds(Choice, provider=st.none() | NAMES, model=st.none() | MODELS),
    request=st.sampled_from([PLAIN, STRUCTURED, PICTURE]),
    on=st.frozensets(st.sampled_from(sorted(ALL))),
    rows=st.permutations(ROWS).map(tuple),
)
def test_every_plan_holds(
    flag: ProviderFlag, choice: Choice, request: ChatRequest, on: frozenset[str], rows: tuple[Row, ...]
) -> None:
    """A plan is never empty, never asks twice, nor whom is off or can't, and does what the caller chose."""
    try:
        candidates = make_plan(flag, choice, request, rows, on)
    except AppError as error:
        assert isinstance(error, InvalidRequest | NoProvider)  # noqa: PT017 - either is right
        assert choice != NO_CHOICE or not on or request is not PLAIN
        return
    asked = [(candidate.provider, candidate.model.id) for candidate in candidates]
    assert 0 < len(asked) == len(set(asked))
    assert {provider for provider, _ in asked} <= on
    assert all(request.needs <= candidate.model.can for candidate in candidates)
    if choice.provider is not None:
        assert {provider for provider, _ in asked} == {choice.provider}
    if choice.model not in {None, "fast", "strong"}:
        assert {model for _, model in asked} == {choice.model}
    if choice == NO_CHOICE and request is PLAIN:
        assert asked[0][0] == flag.provider or flag.provider not in on
        assert ("local" in {provider for provider, _ in asked}) == (
            "local" in on and (on == {"local"} or flag.provider == "local")
        )
