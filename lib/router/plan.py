"""Which providers are asked, in which order: a pure function of the flag, the request and the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from lib.errors import ContextTooLong, FieldError, InvalidRequest, NoProvider
from lib.providers.base import Capability, ChatRequest, Model
from lib.providers.catalog import Row
from lib.router.length import least_tokens

NEEDED_BY: dict[Capability, str] = {
    "json_schema": "response_format",
    "vision": "messages",
    "reasoning": "reasoning_effort",
    "tools": "tools",
    "json_schema_with_tools": "tools",
}
UNLISTED_CONTEXT_TOKENS = 8_192
UNLISTED_OUTPUT_TOKENS = 4_096


@dataclass(frozen=True, slots=True)
class Exposure:
    """That a flag has decided something for a caller: by which of its rules, and whether that let the caller pass."""

    kind: Literal["config", "gate"]
    name: str
    rule: str
    passed: bool
    version: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderFlag:
    """What the flag `feature_ai_provider` says for this caller: an arm and the provider and model it names.

    `provider` None means no preference; `model` None means that provider's fast model. A gate may have put another
    model in its place: `gate_arm` says on which side of it the caller is, None that it was not asked. Made once per
    request and passed on, so that nothing changes in the middle of it.
    """

    name: str = "feature_ai_provider"
    arm: str | None = None
    provider: str | None = None
    model: str | None = None
    reasoning_effort: str | None = None
    gate: str | None = None
    gate_arm: str | None = None
    gate_share: float | None = None
    """How many callers the gate let in when this one was assigned, from 0 to 1."""
    killed: frozenset[str] = frozenset()
    """Providers that must not be asked, whoever wants them."""
    config_version: str | None = None
    exposures: tuple[Exposure, ...] = ()

    def public(self) -> list[dict[str, str]]:
        """What decided, as an answer shows it: name, arm and what the arm names."""
        shown = [{"name": self.name, "arm": self.arm, "provider": self.provider, "model": self.model}]
        if self.gate is not None:
            shown.append({"name": self.gate, "arm": self.gate_arm, "model": self.model})
        return [{key: value for key, value in each.items() if value is not None} for each in shown if each["arm"]]

    def not_applied(self) -> ProviderFlag:
        """The flag for a caller who chose by itself: in no arm, but bound by the kill switches."""
        return ProviderFlag(self.name, killed=self.killed, config_version=self.config_version)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider and the model that it is asked for, and how hard that is to think where the caller does not say."""

    provider: str
    model: Model
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What the caller asked for by itself: a provider pins the plan to it, a model to those who offer it."""

    provider: str | None = None
    model: str | None = None


def make_plan(
    flag: ProviderFlag,
    choice: Choice,
    request: ChatRequest,
    rows: tuple[Row, ...],
    on: Collection[str],
    fallback_order: Sequence[str] = (),
) -> tuple[Candidate, ...]:
    """The candidates, best first: what the caller chose, else the flag's provider, then the others.

    Those come as `fallback_order` names them, and whom it does not name in the catalogue's order. Left out: providers
    that are off or killed by a flag, models that lack what the request needs or surely can't hold it, and the embedded
    demo model while a hosted vendor is on (unless it was asked for). Raises InvalidRequest for a choice that can't be
    met or a conversation that nobody can hold, NoProvider when nothing is left.
    """
    places = {name: place for place, name in enumerate(fallback_order)}
    rows = tuple(sorted(rows, key=lambda row: places.get(row.name, len(places))))
    # Before the killed ones go: the demo model does not step forward for a vendor that was switched off.
    spare = _spare(rows, on)
    on = frozenset(on) - flag.killed
    if choice.provider is not None or choice.model is not None:
        candidates = _chosen(choice, rows, on, spare)
    else:
        candidates = _assigned(flag, rows, on, spare)
    able = tuple(candidate for candidate in candidates if request.needs <= candidate.model.can)
    if candidates and not able:
        needs = ", ".join(sorted(request.needs))
        fields = tuple(FieldError(NEEDED_BY[need], f"needs {need}") for need in sorted(request.needs))
        raise InvalidRequest(f"No provider that is on offers {needs}.", code="capability_missing", errors=fields)
    if not able:
        raise NoProvider("No text provider is on. GET /api/health names the variables that turn one on.")
    return _long_enough(able, request)


def foreseen(choice: Choice, rows: tuple[Row, ...], on: Collection[str]) -> tuple[Candidate, ...]:
    """Who may be asked, as far as that can be said before the flag is known: the plan of a flag without preference.

    Raises InvalidRequest for a choice that can't be met.
    """
    spare = _spare(rows, on)
    return _assigned(ProviderFlag(), rows, on, spare) if choice == Choice() else _chosen(choice, rows, on, spare)


def renamed(rows: tuple[Row, ...], fast: str | None, strong: str | None) -> tuple[Row, ...]:
    """The catalogue with another model behind `fast` and `strong`: each `provider/model`, None leaves them all.

    A model may be newer than the catalogue, a provider that is not there changes nothing.
    """
    for word, route in (("fast", fast), ("strong", strong)):
        provider, _, name = (route or "").partition("/")
        if name:
            rows = tuple(_with_model(row, word, name) if row.name == provider else row for row in rows)
    return rows


def _with_model(row: Row, word: str, name: str) -> Row:
    models = row.models if row.model(name) else (*row.models, _unlisted(name))
    return replace(
        row, models=models, fast=name if word == "fast" else row.fast, strong=name if word == "strong" else row.strong
    )


def _long_enough(candidates: tuple[Candidate, ...], request: ChatRequest) -> tuple[Candidate, ...]:
    """Those whose context may hold the conversation and its answer. Raises InvalidRequest where nobody's can."""
    room = [_input_tokens(candidate.model, request) for candidate in candidates]
    if request.characters <= min(room):
        return candidates  # a token is a character at least: nothing to count
    needed = least_tokens(request.messages)
    held = tuple(candidate for candidate, tokens in zip(candidates, room, strict=True) if needed <= tokens)
    if not held:
        left = max(*room, 0)
        raise InvalidRequest(
            "The conversation is longer than any model that is on can read: it takes at least "
            f"{needed} tokens, and beside the answer no more than {left:.0f} are left.",
            code=ContextTooLong.code,
        )
    return held


def _input_tokens(model: Model, request: ChatRequest) -> float:
    """How much of the model's context is left for the conversation; of a guessed size nothing is known."""
    return inf if model.guessed else model.context_tokens - min(request.max_tokens, model.max_output_tokens)


def _chosen(
    choice: Choice, rows: tuple[Row, ...], on: Collection[str], spare: Collection[str]
) -> tuple[Candidate, ...]:
    if choice.provider is not None and choice.provider not in {row.name for row in rows if row.name in on}:
        names = ", ".join(row.name for row in rows if row.name in on) or "none"
        known = choice.provider in {row.name for row in rows}
        raise _bad_choice("provider", f"{'is not on here' if known else 'is not known'}; on: {names}")
    offered = tuple(
        Candidate(row.name, model)
        for row in rows
        if row.name in on and choice.provider in {None, row.name}
        if row.name not in spare or choice.provider is not None or choice.model not in {None, "fast", "strong"}
        if (model := _named(row, choice.model)) is not None
    )
    if not offered:
        raise _bad_choice("model", "is not offered by a provider that is on")
    return offered


def _assigned(
    flag: ProviderFlag, rows: tuple[Row, ...], on: Collection[str], spare: Collection[str]
) -> tuple[Candidate, ...]:
    candidates: list[Candidate] = []
    for row in sorted(rows, key=lambda row: row.name != flag.provider):
        assigned = row.name == flag.provider
        if row.name not in on or (row.name in spare and not assigned):
            continue
        if assigned:
            candidates.append(Candidate(row.name, _flagged(row, flag.model), flag.reasoning_effort))
        else:
            candidates.append(Candidate(row.name, _flagged(row, None)))
    return tuple(candidates)


def _spare(rows: tuple[Row, ...], on: Collection[str]) -> frozenset[str]:
    """The demo models while a hosted vendor is on: then they serve only who asks for them by name."""
    hosted = any(row.name in on and not row.demo for row in rows)
    return frozenset(row.name for row in rows if row.demo and hosted)


def _flagged(row: Row, name: str | None) -> Model:
    """The model that the flag names; it may be newer than the catalogue, then its limits are guessed low."""
    model = _named(row, name)
    return model or _unlisted(name or row.fast)


def _unlisted(name: str) -> Model:
    return Model(name, UNLISTED_CONTEXT_TOKENS, UNLISTED_OUTPUT_TOKENS, guessed=True)


def _named(row: Row, name: str | None) -> Model | None:
    """The row's model of that name; `fast` and `strong` are names too, None is fast."""
    ids = {None: row.fast, "fast": row.fast, "strong": row.strong}
    return row.model(ids.get(name, name or row.fast))


def _bad_choice(path: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{path} {message}.", errors=(FieldError(path, message),))
