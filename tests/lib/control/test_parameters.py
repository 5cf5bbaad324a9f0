"""The runtime parameters: which source counts, field by field, and what happens to values that do not fit."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.control.parameters import ITEM, ROWS, Parameters, Resolver, camel_case
from lib.router.attempt import Policy
from tests.lib.control.expressions.trees import function, get, init_data, literal, of_context, split, switch, variable
from tests.lib.values import json_values

CALLER = {"environment": "production", "user": {"id": "u3"}}
DREAM = {"type": "DreamExpression"}


def as_json(value: Any) -> Any:
    """A parameter's value as it would be stored."""
    return [*value] if isinstance(value, tuple) else value


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What has been logged."""
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def test_defaults() -> None:
    """Without any source the defaults hold, and they are what the router does anyway."""
    parameters, policy = Resolver().resolve({}, CALLER), Policy()
    assert parameters == Parameters()
    assert parameters.first_token_budget_ms == policy.first_token_s * 1000
    assert parameters.hedge_s == policy.hedge_s
    assert parameters.honour_retry_after == policy.honour_retry_after
    assert parameters.fallback_order == policy.fallback_order


def test_defaults_may_be_others() -> None:
    """An app with another policy begins with that."""
    resolver = Resolver(defaults=Parameters(first_token_budget_ms=50))
    assert resolver.resolve({}, CALLER) == Parameters(first_token_budget_ms=50)
    assert resolver.resolve({ITEM: {"top_p": 0.5}}, CALLER) == Parameters(first_token_budget_ms=50, top_p=0.5)


@pytest.mark.parametrize("name", ROWS)
def test_defaults_fit(name: str) -> None:
    """Every default that is a value lies within its own range."""
    default = getattr(Parameters(), name)
    if default is not None:
        assert ROWS[name].range.read(as_json(default)) == default


def test_order_of_the_sources() -> None:
    """Field by field: the request, then Hypertune, then ai_config, then the default."""
    items = {
        ITEM: {"temperature": 0.1, "top_p": 0.2, "max_tokens": 300, "img_style": "ink", "fallback_order": ["xai"]},
        "hypertune": init_data(temperature=literal(1.1), top_p=literal(0.5), maxTokens=literal(400)),
    }
    parameters = Resolver().resolve(items, CALLER, {"temperature": 2.0})
    assert parameters == Parameters(
        temperature=2.0, top_p=0.5, max_tokens=400, img_style="ink", fallback_order=("xai",)
    )


def test_the_request_may_set_only_what_callers_may() -> None:
    """What steers the router is the operator's, whoever asks."""
    resolver = Resolver()
    assert resolver.resolve({}, CALLER, {"fallback_order": ["xai"], "budget_usd_per_day": 1.0}) == Parameters()
    assert {name for name, row in ROWS.items() if row.caller} == {"temperature", "top_p", "max_tokens"}


def test_null_is_no_value() -> None:
    """Null leaves a parameter to the next source, and is no mistake."""
    resolver = Resolver()
    assert resolver.resolve({ITEM: {"temperature": None}}, CALLER, {"top_p": None}) == Parameters()
    assert resolver.rejected == {}


def test_unfit_values_are_passed_over_one_by_one(logged: Callable[[], list[str]]) -> None:
    """A bad value costs its own field alone; it is counted for each request and logged once per version, unquoted."""
    items: dict[str, object] = {
        ITEM: {"temperature": "s3cret", "top_p": 0.2, "hedge": 1, "max_tokens": 0},
        "hypertune": init_data(
            temperature=literal(9), top_p=literal("s3cret"), max_tokens=DREAM, img_style=literal("ink")
        ),
    }
    resolver = Resolver()
    for _ in range(3):
        assert resolver.resolve(items, CALLER) == Parameters(top_p=0.2, img_style="ink")
    assert resolver.rejected == {
        ("temperature", "ai_config"): 3,
        ("hedge", "ai_config"): 3,
        ("max_tokens", "ai_config"): 3,
        ("temperature", "hypertune"): 3,
        ("top_p", "hypertune"): 3,
        ("max_tokens", "hypertune"): 3,
    }
    assert sorted(logged()) == [
        "Hypertune's field max_tokens uses DreamExpression, which is not supported; it falls back.",
        f"hedge from ai_config is passed over; it may be: {ROWS['hedge'].range.words}",
        "max_tokens from ai_config is passed over; it may be: whole number from 1 to 16384",
        "temperature from ai_config is passed over; it may be: number from 0 to 2",
        "temperature from hypertune is passed over; it may be: number from 0 to 2",
        "top_p from hypertune is passed over; it may be: number above 0 up to 1",
    ]
    before = len(logged())
    resolver.resolve(dict(items), CALLER)
    assert len(logged()) == 2 * before


def test_an_unfit_value_of_the_request() -> None:
    """Handlers refuse those themselves; should one slip through, the next source counts."""
    resolver = Resolver()
    assert resolver.resolve({ITEM: {"top_p": 0.2}}, CALLER, {"top_p": 7}) == Parameters(top_p=0.2)
    assert resolver.rejected == {("top_p", "request"): 1}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "the Edge Config item ai_config is passed over: it must be an object"),
        ("{}", "the Edge Config item ai_config is passed over: it must be an object"),
        ({"temprature": 1, "top_p": None}, "ai_config holds 1 fields that are no parameters: temprature"),
        ({"a\nb": 1, "x" * 99: 1}, "ai_config holds 2 fields that are no parameters: unnameable"),
    ],
    ids=range(4),
)
def test_a_config_that_is_none(config: object, message: str, logged: Callable[[], list[str]]) -> None:
    """What can't be a parameter is said once, by name where that is one."""
    resolver = Resolver()
    items = {ITEM: config}
    assert [resolver.resolve(items, CALLER) for _ in range(2)] == [Parameters()] * 2
    assert logged() == [message]


def test_a_new_version_counts_from_the_next_request() -> None:
    """The items' object tells versions apart; what one version set is gone with it."""
    resolver = Resolver()
    assert resolver.resolve({ITEM: {"temperature": 0.1, "top_p": 0.5}}, CALLER).temperature == 0.1
    assert resolver.resolve({ITEM: {"temperature": 0.2}}, CALLER) == Parameters(temperature=0.2)
    assert resolver.resolve({"hypertune": init_data(temperature=literal(0.3))}, CALLER) == Parameters(temperature=0.3)
    assert resolver.resolve({}, CALLER) == Parameters()


def test_hypertune_decides_by_the_caller() -> None:
    """Its rules see the context; an arm of a split is the user's own."""
    temperature = switch(of_context("user > role"), [(literal("operator"), literal(0.0))], literal(1.0))
    arms = split(of_context("user > id"), a=literal(100), b=literal(200), default=literal(300))
    items = {"hypertune": init_data(temperature=temperature, maxTokens=arms)}
    resolver = Resolver()
    for user, expected in (
        ({"id": "u3", "role": "operator"}, (0.0, 100)),
        ({"id": "u9", "role": "user"}, (1.0, 200)),
        ({"id": "u0", "role": "user"}, (1.0, 300)),
    ):
        parameters = resolver.resolve(items, {"user": user})
        assert (parameters.temperature, parameters.max_tokens) == expected
    assert resolver.resolve(items, {"user": {"id": "u3"}}) == Parameters(max_tokens=100)
    assert resolver.rejected == {("temperature", "hypertune"): 1}


def test_spellings_in_hypertune() -> None:
    """Fields are named as here or in camel case; where both are there, as here counts."""
    assert camel_case("first_token_budget_ms") == "firstTokenBudgetMs"
    for fields in (
        {"topP": literal(0.1), "top_p": literal(0.2)},
        {"top_p": literal(0.2), "topP": literal(0.1)},
    ):
        assert Resolver().resolve({"x": init_data(**fields, other=literal(1))}, CALLER) == Parameters(top_p=0.2)


def test_fields_of_hypertune_with_arguments() -> None:
    """A field that needs arguments has no value here."""
    resolver = Resolver()
    items = {"x": init_data(voiceId=function(get(variable("args"), "locale"), "args"))}
    assert resolver.resolve(items, CALLER) == Parameters()
    assert resolver.rejected == {("voice_id", "hypertune"): 1}


@pytest.mark.parametrize("key", [None, "named", "other"])
def test_where_hypertunes_item_is(key: str | None) -> None:
    """It is known by its shape, as an object or a string; the name that the integration gives goes first."""
    named, other = init_data(top_p=literal(0.1)), init_data(top_p=literal(0.2))
    items: dict[str, object] = {"named": json.dumps(named), "other": other, "statsig": {"feature_gates": {}}}
    assert Resolver(key).resolve(items, CALLER).top_p == (0.2 if key == "other" else 0.1)


def test_a_compressed_item_is_said(logged: Callable[[], list[str]]) -> None:
    """Hypertune's compressed form is not read: one line says what to do, and ai_config counts."""
    resolver = Resolver("item")
    items = {"item": "jsonito_commitId", ITEM: {"top_p": 0.5}}
    assert [resolver.resolve(items, CALLER).top_p for _ in range(2)] == [0.5, 0.5]
    (line,) = logged()
    assert line == (
        "Hypertune's init data is compressed as jsonito, which is not read here: store it as plain JSON, or use "
        "ai_config; everything falls back."
    )


@pytest.mark.parametrize(("hedge", "seconds"), [("off", None), ("auto", 1.5), (250, 0.25), ("250", 0.25)])
def test_hedge(hedge: object, seconds: float | None) -> None:
    """Never, after half of the budget for the first token, or after so many milliseconds."""
    items = {ITEM: {"hedge": hedge, "first_token_budget_ms": 3000}}
    assert Resolver().resolve(items, CALLER).hedge_s == seconds


def test_public() -> None:
    """Browsers see what shapes answers, not how the router works nor what may be spent."""
    assert set(Parameters().public()) == {
        *("temperature", "top_p", "max_tokens", "voice_id", "voice_model", "img_style", "img_model", "captions_style")
    }
    assert Parameters(img_style="ink").public()["img_style"] == "ink"


NAMES = st.sampled_from([*ROWS, *map(camel_case, ROWS), "other"])
VALUES = json_values(st.text(max_size=3)) | st.sampled_from(["off", "xai", 0.5, 100, True, ["xai"], 10**400])


@given(
    st.dictionaries(NAMES, VALUES, max_size=5) | VALUES,
    st.dictionaries(NAMES, VALUES | st.just(DREAM), max_size=5),
    st.dictionaries(st.sampled_from(sorted(ROWS)), VALUES, max_size=5),
    json_values(st.just("user")),
)
def test_any_values(config: Any, fields: dict[str, Any], request: dict[str, Any], context: Any) -> None:
    """Whatever the sources hold, every parameter ends within its range or at its default."""
    items = {ITEM: config, "hypertune": init_data(**{name: _as_literal(value) for name, value in fields.items()})}
    parameters = Resolver().resolve(items, {"user": context}, request)
    for name, row in ROWS.items():
        value = getattr(parameters, name)
        if value != getattr(Parameters(), name):
            assert row.range.read(as_json(value)) == value


def _as_literal(value: Any) -> Any:
    return literal(value) if isinstance(value, str | bool | int | float) else value
