"""The flags: which provider and model a caller is assigned to, and what is switched off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from lib.control.engine import NO_TRAITS, Engine, Value
from lib.control.sources import Source, Specs
from lib.control.specs import Json
from lib.errors import ServiceFailed
from lib.router.plan import Exposure, ProviderFlag

EXPERIMENT = "feature_ai_provider"
GATE = "groq_r1_v_production"
GATED_ARM = "groq"
TREATMENT, CONTROL = "treatment", "control"
CANDIDATE_MODEL, CANDIDATE_EFFORT = "openai/gpt-oss-120b", "medium"
EFFORTS = ("low", "medium", "high")
KILL = "kill_"

log = logging.getLogger("control")


class Flags:
    """Decides once per request, by the newest specs that could be had; without any, by a setting."""

    def __init__(
        self,
        provider_setting: str | None,
        sources: Sequence[Source] = (),
        *,
        on: Collection[str] = (),
        assignable: Collection[str] = (),
        tier: str = "development",
        trusted_s: float = float("inf"),
    ) -> None:
        """`provider_setting` is a provider's name or `provider/model`; None leaves the choice to the catalogue.

        The first of `sources` that has specs counts. `on` names the providers that could be called, `assignable` those
        of them that a flag may name. Specs older than `trusted_s` let nobody into a gate that is only partly open: it
        may have been closed meanwhile.
        """
        provider, _, model = (provider_setting or "").partition("/")
        self._default = ProviderFlag(arm=provider or None, provider=provider or None, model=model or None)
        self._sources = sources
        self._assignable = assignable
        self._trusted_s = trusted_s
        self._tier = tier
        self._kills = {name: f"{KILL}{name}" for name in on}
        self._specs: Specs | None = None
        self._engine: Engine | None = None
        self._source: Source | None = None
        self._making = asyncio.Lock()
        self._trouble: tuple[str, str] | None = None
        self._warned: set[str] = set()

    async def provider(self, caller_id: str, traits: Mapping[str, str] = NO_TRAITS) -> ProviderFlag:
        """What holds for this caller, from here to the end of the request. `traits` are what rules may ask for.

        The same caller gets the same answer for as long as the specs keep their salts. Never raises.
        """
        engine = await self._current()
        return self._default if engine is None else self._decide(engine, caller_id, traits)

    async def client_values(
        self, caller_id: str, traits: Mapping[str, str] = NO_TRAITS, stable_id: str | None = None
    ) -> Json:
        """What Statsig's browser client starts from, for this caller (see Engine.client_values)."""
        engine = await self._current()
        if engine is not None:
            return engine.client_values(engine.user(caller_id, traits, stable_id))
        user = {"userID": caller_id, "customIDs": {"stableID": stable_id or caller_id}}
        nothing: Json = {"feature_gates": {}, "dynamic_configs": {}, "layer_configs": {}}
        return {"has_updates": True, "time": 0, "hash_used": "djb2", "user": user, **nothing}

    async def document(self) -> Mapping[str, object] | None:
        """The specs that decide now; None where there are none."""
        await self._current()
        return None if self._specs is None else self._specs.document

    async def renew(self) -> None:
        """After an answer: read again what will soon be too old, and make the next engine of it."""
        for source in self._sources:
            await source.renew()
        if self._engine is not None:
            await self._current()

    async def troubles(self) -> Mapping[str, str]:
        """What is wrong now, by part: a word for why it can't be read or used."""
        await self._current()
        own = [] if self._trouble is None else [self._trouble]
        return dict([*own, *((source.part, source.error) for source in self._sources if source.error)])

    async def _current(self) -> Engine | None:
        """The engine over the newest specs; an older one where those can't be used."""
        for source in self._sources:
            specs = await source.specs()
            if specs is not None:
                self._source = source
                if specs is not self._specs:
                    async with self._making:
                        await self._follow(specs, source.part)
                return self._engine
        self._trouble = None
        return None

    async def _follow(self, specs: Specs, part: str) -> None:
        if specs is self._specs:
            return
        trouble = None
        try:
            engine = await asyncio.to_thread(Engine, specs.document, specs.version, tier=self._tier)
            unreadable = engine.unreadable(EXPERIMENT, (GATE, *self._kills.values()))
            self._engine = engine
            self._warned.clear()
            if unreadable:
                trouble = "flag_unreadable"
        except ServiceFailed as error:
            trouble = error.code
        except Exception as error:  # noqa: BLE001 - nobody should wait for an answer because of a strange document
            trouble = type(error).__name__
        if trouble is not None and self._trouble is None:
            log.warning("the flags' specs can't be used as they are (%s): the last good ones or defaults hold", trouble)
        self._trouble = None if trouble is None else (part, trouble)
        self._specs = specs

    def _decide(self, engine: Engine, caller_id: str, traits: Mapping[str, str]) -> ProviderFlag:
        user = engine.user(caller_id, traits)
        killed = frozenset(
            name
            for name, gate in self._kills.items()
            if gate in engine.gates and (verdict := engine.gate(user, gate)) is not None and verdict.passed
        )
        default = replace(self._default, killed=killed, config_version=engine.version)
        found = engine.config(user, EXPERIMENT)
        if found is None:
            return default
        flag = self._assigned(found, default)
        if (flag.arm or flag.provider) != GATED_ARM or flag.provider is None or flag.provider in killed:
            return flag
        verdict = engine.gate(user, GATE)
        if verdict is None or (verdict.share not in {0, 1} and self._outdated):
            return flag
        exposure = Exposure("gate", GATE, verdict.rule, verdict.passed, verdict.version)
        gated = replace(
            flag,
            gate=GATE,
            gate_arm=TREATMENT if verdict.passed else CONTROL,
            gate_share=verdict.share,
            exposures=(*flag.exposures, exposure),
        )
        return _with_candidate(gated, found.value) if verdict.passed else gated

    @property
    def _outdated(self) -> bool:
        """Whether the specs may have changed longer ago than they are trusted: after a freeze, or cut off from them."""
        age_s = None if self._source is None else self._source.age_s
        return age_s is None or age_s > self._trusted_s

    def _assigned(self, found: Value, default: ProviderFlag) -> ProviderFlag:
        exposure = Exposure("config", EXPERIMENT, found.rule, found.passed, found.version)
        provider, model = found.value.get("provider"), found.value.get("model")
        if not isinstance(provider, str):
            self._warn("names no provider: the default holds")
            return replace(default, exposures=(exposure,))
        # A plain config has no groups: its arms are what it names.
        arm = found.group if found.is_experiment else provider
        flag = replace(default, arm=arm, provider=None, model=None, exposures=(exposure,))
        if provider not in self._assignable:
            self._warn("names a provider that is off or unknown: the next one in order answers")
            return flag
        return replace(flag, provider=provider, model=model if isinstance(model, str) else None)

    def _warn(self, what: str) -> None:
        """Once for each version of the specs."""
        if what not in self._warned:
            self._warned.add(what)
            log.warning("%s %s", EXPERIMENT, what)


def _with_candidate(flag: ProviderFlag, parameters: Mapping[str, object]) -> ProviderFlag:
    """The flag with the model that the gate is about: `candidate_model` of the arm, else the one in the code."""
    model, effort = parameters.get("candidate_model"), parameters.get("candidate_reasoning_effort")
    is_ours = flag.provider == GATED_ARM
    if not isinstance(model, str):
        model = CANDIDATE_MODEL if is_ours else flag.model
    if effort not in EFFORTS:
        effort = CANDIDATE_EFFORT if is_ours else None
    return replace(flag, model=model, reasoning_effort=effort)
