"""The runtime parameters: what steers answers and can be changed without a redeploy.

The class `Parameters` is the table: a line there is the parameter's name, type, default, range and description, and
checks, docs/parameters.md and what GET /api/flags shows all come from it.

For each parameter the first of these that has a fit value counts: the request, where callers may set it; the field of
that name in Hypertune's item (`top_p` or `topP`), for this caller; the field of the Edge Config item `ai_config`; the
default. A value that is unfit is passed over, counted and logged once per version; null is no value.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

import orjson

from lib.control.edge_config import Items, item_of
from lib.control.ranges import Delay, Names, Number, Range, Refused, Rising, Switch, Text, Whole

if TYPE_CHECKING:
    from lib.control.hypertune import InitData

log = logging.getLogger("parameters")

ITEM = "ai_config"
MAX_OUTPUT_TOKENS = 16_384
DEFAULT_OUTPUT_TOKENS = 2_048
"""Vendors' own defaults reach from 16 tokens to endless."""
NOTHING: Mapping[str, object] = MappingProxyType({})
NAMES_SHOWN = 5
CALLERS_KEPT = 1_000

TEMPERATURE = Number(0, 2)
TOP_P = Number(0, 1, above=True)
MAX_TOKENS = Whole(1, MAX_OUTPUT_TOKENS)
PROVIDER = Text(re.compile(r"[a-z0-9_-]{1,64}"), "provider's name")
MODEL = Text(re.compile(r"[!-~]{1,128}"), "model's name")
ROUTE = Text(re.compile(r"[a-z0-9_-]{1,64}/[!-~]{1,128}"), "provider/model")
ID = Text(re.compile(r"[A-Za-z0-9_-]{1,64}"), "id")
LANGUAGE = Text(re.compile(r"[a-z]{2}"), "language, as ISO 639-1 code")
SHARE = Number(0, 1)
STYLE = Text(re.compile(r"[^\x00-\x1f\x7f]{1,200}"), "text of up to 200 characters")

Source: TypeAlias = Literal["request", "hypertune", "ai_config"]
Value = TypeVar("Value")
Default = TypeVar("Default")


@dataclass(frozen=True, slots=True)
class Row:
    """A parameter. `caller`: the range within which a request may set it, if it may; `public`: browsers may see it."""

    range: Range[object]
    help: str
    caller: Range[object] | None
    public: bool


def _parameter(
    default: Default,
    values: Range[Value],
    help_text: str,
    *,
    caller: Range[Value] | None = None,
    public: bool = False,
) -> Value | Default:
    row = Row(values, help_text, caller, public)
    return cast("Value | Default", field(default=default, metadata={"row": row}))


@dataclass(frozen=True, slots=True)
class Parameters:
    """What holds for one request. None: whoever is asked decides."""

    temperature: float | None = _parameter(
        None,
        TEMPERATURE,
        "How much chance there is in the text; for requests that do not say.",
        caller=TEMPERATURE,
        public=True,
    )
    top_p: float | None = _parameter(
        None,
        TOP_P,
        "The share of likely words that the text is drawn from; for requests that do not say.",
        caller=TOP_P,
        public=True,
    )
    max_tokens: int = _parameter(
        DEFAULT_OUTPUT_TOKENS,
        MAX_TOKENS,
        "The longest answer, in tokens; for requests that do not say.",
        caller=MAX_TOKENS,
        public=True,
    )
    fast_model: str | None = _parameter(
        None, ROUTE, "What `fast`, and so a request that names no model, means at one provider; unset: the catalogue's."
    )
    strong_model: str | None = _parameter(None, ROUTE, "What `strong` means at one provider; unset: the catalogue's.")
    fallback_order: tuple[str, ...] = _parameter(
        (),
        Names(PROVIDER, "list of providers' names"),
        "Who is asked next when the provider of the flag fails; whom it leaves out comes after, in the catalogue's "
        "order. A provider that is off is passed over.",
    )
    first_token_budget_ms: int = _parameter(
        4_000, Whole(100, 60_000), "How long a provider may be silent, in milliseconds, before the next one is asked."
    )
    hedge: Literal["off", "auto"] | int = _parameter(
        "off",
        Delay(Whole(50, 60_000)),
        "When a second provider is asked beside a first that is still silent, in milliseconds; `auto`: when it is "
        "silent for longer than it usually is, and until that is known after half of `first_token_budget_ms`.",
    )
    honour_retry_after: bool = _parameter(
        default=False,
        values=Switch(),
        help_text="Whether a provider that fails is tried again, after its Retry-After, before the next one is.",
    )
    voice_id: str | None = _parameter(None, ID, "The voice that reads aloud, by ElevenLabs' id.", public=True)
    voice_model: str | None = _parameter(None, MODEL, "The model that reads aloud.", public=True)
    voice_language: str | None = _parameter(None, LANGUAGE, "The language that is read; unset: the model hears it.")
    voice_speed: float | None = _parameter(None, Number(0.7, 1.2), "How fast is read; 1 is the voice's own pace.")
    voice_stability: float | None = _parameter(None, SHARE, "How evenly is read; less is livelier.")
    voice_similarity_boost: float | None = _parameter(None, SHARE, "How close to the original the voice keeps.")
    voice_style: float | None = _parameter(None, SHARE, "How much the voice's own manner is heard.")
    voice_speaker_boost: bool | None = _parameter(None, Switch(), "Whether the likeness to the original is raised.")
    img_style: str | None = _parameter(
        None,
        STYLE,
        "The style that pictures are drawn in: the name of one (docs/media.md), or words for it.",
        public=True,
    )
    img_model: str | None = _parameter(None, MODEL, "The model that draws.", public=True)
    captions_style: str | None = _parameter(None, STYLE, "How a video's captions look.", public=True)
    budget_usd_per_day: float | None = _parameter(
        None,
        Number(0, 100_000),
        "What a caller may spend in a day, in US dollars, where the table `limits` allows more; unset: what that says.",
    )

    rollout_stages: tuple[float, ...] = _parameter(
        (1.0, 5.0, 10.0, 25.0, 50.0, 100.0),
        Rising(Number(0, 100, above=True), 100),
        "The shares of callers, in percent, that a rollout goes through. A rollout keeps what held when it began.",
    )
    rollout_dwell_s: int = _parameter(
        600, Whole(1, 604_800), "How long a rollout stays in a stage at least, in seconds."
    )
    rollout_fewest_users: int = _parameter(
        100, Whole(1, 1_000_000), "How many users have to be treated in a stage before a rollout leaves it."
    )
    rollout_most_users: int = _parameter(
        6_000,
        Whole(1, 10_000_000),
        "With how many treated users a rollout leaves a stage though harm is not ruled out, if nothing looks worse.",
    )
    rollout_baseline_requests: int = _parameter(
        500, Whole(50, 5_000), "Over how many requests of the control a rollout freezes what counts as slow and dear."
    )
    rollout_latency_ratio: float = _parameter(
        1.0, Number(1, 10), "How many times as slow as the control a rollout's candidate may be."
    )
    rollout_cost_ratio: float | None = _parameter(
        None,
        Number(1, 100),
        "How many times as dear as the control a rollout's candidate may be; unset: as its prices say.",
    )
    rollout_hourly_cap_usd: float | None = _parameter(
        None,
        Number(0, 100_000),
        "What a rollout's candidate may cost in an hour before it is put on hold; unset: no cap.",
    )
    rollout_tick_s: int = _parameter(
        50, Whole(1, 50), "How often a rollout is looked at beside the traffic, in seconds, by all instances together."
    )

    @property
    def hedge_s(self) -> float | None:
        """When a second provider is started, in seconds; None: never."""
        if self.hedge == "off":
            return None
        return (self.first_token_budget_ms / 2 if self.hedge == "auto" else self.hedge) / 1000

    def public(self) -> dict[str, object]:
        """What browsers may see."""
        return {name: getattr(self, name) for name, row in ROWS.items() if row.public}


ROWS: Mapping[str, Row] = {each.name: each.metadata["row"] for each in fields(Parameters)}


def camel_case(name: str) -> str:
    """The name as GraphQL's schemas, and so Hypertune's, like to have it."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


_IN_HYPERTUNE = {spelling: name for name in ROWS for spelling in (camel_case(name), name)}
_ABSENT = object()


class _Decided:
    """Parameters, as such and by name, and what was passed over on the way to them."""

    __slots__ = ("parameters", "rejected", "values")

    def __init__(self, values: Mapping[str, Any], rejected: Sequence[tuple[str, Source]] = ()) -> None:
        self.values = values
        self.rejected = rejected
        self.parameters = Parameters(**values)


class Resolver:
    """Decides each request's parameters. Reads the items once per version; per request, only Hypertune's fields."""

    def __init__(self, hypertune_key: str | None = None, defaults: Parameters | None = None) -> None:
        """`hypertune_key` names Hypertune's item, as far as that is known."""
        self.rejected: Counter[tuple[str, Source]] = Counter()
        """In how many requests a parameter's value was passed over, by where it came from."""
        self._hypertune_key = hypertune_key
        given = defaults or Parameters()
        self._defaults: dict[str, Any] = {name: getattr(given, name) for name in ROWS}
        self._usual = _Decided(self._defaults)
        self._items: Items = NOTHING
        self._init_data: InitData | None = None
        self._callers: dict[bytes, _Decided] = {}
        self._logged: set[tuple[str, Source]] = set()

    def resolve(
        self, items: Items, context: Mapping[str, object], request: Mapping[str, object] = NOTHING
    ) -> Parameters:
        """The parameters for one request. Never raises.

        `items` are the Edge Config's, the same object for as long as they are the same. `context` is what Hypertune's
        rules may ask for: {environment, user: {id, …}}. `request` holds what the caller set, by parameter.
        """
        if items is not self._items:
            self._follow(items)
        usual = self._usual if self._init_data is None else self._of_caller(self._init_data, context)
        for key in usual.rejected:
            self.rejected[key] += 1
        changes: dict[str, Any] = {}
        for name, value in request.items():
            row = ROWS[name]
            if row.caller is not None and not self._take(name, row.caller, value, "request", changes):
                self.rejected[name, "request"] += 1
        return Parameters(**{**usual.values, **changes}) if changes else usual.parameters

    def _follow(self, items: Items) -> None:
        """Read a new version of the items."""
        self._items = items
        self._logged.clear()
        self._callers.clear()
        self._init_data = _init_data(items, self._hypertune_key)
        changes: dict[str, Any] = {}
        config = _fields_of(items.get(ITEM, NOTHING))
        known = {name: value for name, value in config.items() if name in ROWS}
        unfit = [name for name in known if not self._take(name, ROWS[name].range, known[name], ITEM, changes)]
        self._usual = _Decided({**self._defaults, **changes}, tuple((name, ITEM) for name in unfit))

    def _of_caller(self, init_data: InitData, context: Mapping[str, object]) -> _Decided:
        """What holds for this caller. Rules know no chance and no time, so that who comes back gets the same again."""
        try:
            key = orjson.dumps(context)
        except TypeError:
            return self._ask_hypertune(init_data, context)
        if key not in self._callers:
            if len(self._callers) >= CALLERS_KEPT:
                self._callers.clear()
            self._callers[key] = self._ask_hypertune(init_data, context)
        return self._callers[key]

    def _ask_hypertune(self, init_data: InitData, context: Mapping[str, object]) -> _Decided:
        root = init_data.root({"context": context})
        changes: dict[str, Any] = {}
        rejected: list[tuple[str, Source]] = []
        for spelling in root.names:
            name = _IN_HYPERTUNE.get(spelling)
            if name is None or (name in changes and spelling != name):
                continue
            value = root.get(spelling, fallback=_ABSENT)
            # Of a field without a value Hypertune's own part has said why.
            if value is _ABSENT or not self._take(name, ROWS[name].range, value, "hypertune", changes):
                rejected.append((name, "hypertune"))
        return _Decided({**self._usual.values, **changes}, (*self._usual.rejected, *rejected))

    def _take(self, name: str, values: Range[object], value: object, source: Source, changes: dict[str, Any]) -> bool:
        """Put the value among the changes; False where it is unfit."""
        if value is None:
            return True
        try:
            changes[name] = values.read(value)
        except Refused:
            if (name, source) not in self._logged:
                self._logged.add((name, source))
                log.warning("%s from %s is passed over; it may be: %s", name, source, values.words)
            return False
        return True


def _init_data(items: Items, key: str | None) -> InitData | None:
    """Hypertune's item, ready to be evaluated; also in the form that is not read here, so that this is said."""
    stored, named = item_of(items, "commitId", key), items.get(key or "")
    if stored is None and not isinstance(named, str):
        return None
    from lib.control.hypertune import InitData, is_compressed  # noqa: PLC0415 - only who has such an item pays for it

    if stored is None:
        return InitData(named) if is_compressed(named) else None
    return InitData(stored)


def _fields_of(config: object) -> Mapping[str, object]:
    """The fields of ai_config; what can't be one of ours is logged, by name where it may be one misspelt."""
    if not isinstance(config, Mapping):
        log.warning("the Edge Config item %s is passed over: it must be an object", ITEM)
        return NOTHING
    found = cast("Mapping[str, object]", config)
    unknown = [name for name in found if name not in ROWS]
    if unknown:
        shown = ", ".join(name for name in unknown[:NAMES_SHOWN] if re.fullmatch(r"\w{1,40}", name, re.ASCII))
        log.warning("%s holds %d fields that are no parameters: %s", ITEM, len(unknown), shown or "unnameable")
    return found
