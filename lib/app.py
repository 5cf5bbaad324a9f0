"""The one place where the parts are put together. Each is made on first use and then kept."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, cast

from lib import settings as environment
from lib.control.edge_config import EdgeConfig, Writer
from lib.control.flag_stores import EdgeConfigStore, FlagStore, StatsigConsole
from lib.control.flags import CANDIDATE_MODEL, GATED_ARM, Flags
from lib.control.parameters import NOTHING, Parameters, Resolver
from lib.control.shares import DatabaseStore, Overlaid
from lib.control.sources import EdgeConfigItem, Source, StatsigNetwork
from lib.cron import TASKS, Task, call_worker
from lib.data.accounts import Accounts
from lib.data.assets import Assets
from lib.data.circuit import Circuit
from lib.data.files import Files
from lib.data.limits import Cap, Limits
from lib.data.rollups import Rollups
from lib.data.stops import Stops
from lib.data.supabase import Supabase
from lib.data.tokens import Tokens
from lib.exchange import Exchange
from lib.http.auth import Auth, Caller, Users
from lib.incidents.build_log import BuildLogs
from lib.incidents.deploys import Deploys
from lib.incidents.failures import Failures, breaker_failure, budget_failure, telemetry_failure
from lib.incidents.github import GitHub
from lib.incidents.incidents import Failure, Incidents
from lib.incidents.probe import Listed, listed
from lib.incidents.safe_text import Redactor
from lib.incidents.watch import Watch
from lib.media.pictures import Pictures
from lib.media.rendering import Renderer
from lib.media.speech import Speaker
from lib.media.voices import Voices
from lib.outbound import Outbound
from lib.providers.base import TextProvider, Usage
from lib.providers.catalog import (
    EMBEDDING_ROWS,
    IMAGE_ROWS,
    ROWS,
    SPEECH_ROWS,
    EmbeddingRow,
    ImageRow,
    Row,
    SpeechRow,
)
from lib.providers.elevenlabs import ElevenLabs
from lib.providers.embeddings import EmbeddingProvider
from lib.providers.fal import Fal
from lib.providers.images import ImageProvider
from lib.providers.openai_compatible import OpenAICompatible
from lib.providers.openai_embeddings import OpenAIEmbeddings
from lib.providers.speech import SpeechProvider
from lib.router.attempt import Policy
from lib.router.embeddings import EmbeddingRouter
from lib.router.health import Health
from lib.router.router import Router
from lib.settings import GITHUB_VARIABLES, Settings
from lib.telemetry.cost import Costs
from lib.telemetry.events import Recorder
from lib.telemetry.sinks import Outbox, Sink, Sinks
from lib.telemetry.statsig import StatsigSink
from lib.telemetry.supabase import SupabaseSink

if TYPE_CHECKING:
    from types import ModuleType

    import httpx

    from lib.experiments import Experiments
    from lib.letters import Letters
    from lib.rollouts import Rollouts

_TALKATIVE_LOGGERS = ("openai", "groq", "httpx", "httpcore", "aiohttp", "fal_client", "elevenlabs")
"""At INFO they log every request, at DEBUG the whole prompt."""
VOICES_S = 30.0
LEFTOVERS_S = 60.0
ROLLOUTS_S, EXPERIMENTS_S = 60.0, 120.0
LETTERS_S = 25.0
"""More than the worker takes to answer."""
PATIENT_S = 8.0
"""For the database where nobody waits for an answer, or where a delivery that is refused may not come again."""
OBJECTS_BETWEEN_COLLECTIONS = 10_000
_VERCELS_SDK = ("vercel", "vercel.cache", "vercel.cache.cache_build", "vercel.cache.context", "vercel.headers")


class App:
    """The product's parts over one set of settings.

    `policy` is what requests begin with: handlers replace what their request decides. `health` is the providers',
    `cap` what this process allows where no database counts.
    """

    def __init__(
        self,
        settings: Settings,
        rows: tuple[Row, ...] = ROWS,
        *,
        policy: Policy | None = None,
        health: Health | None = None,
        embedding_rows: tuple[EmbeddingRow, ...] = EMBEDDING_ROWS,
        cap: Cap | None = None,
        speech_rows: tuple[SpeechRow, ...] = SPEECH_ROWS,
        image_rows: tuple[ImageRow, ...] = IMAGE_ROWS,
    ) -> None:
        self.settings = settings
        self._cap = cap
        self.policy = policy or Policy()
        self._health = health or Health()
        self._rows = {row.name: row for row in rows}
        self._embedding_rows = {row.name: row for row in embedding_rows}
        self._adapters: dict[str, TextProvider] = {}
        self._outbound = Outbound()
        self._seen_lost: Counter[str] = Counter()
        self._seen_exhausted = 0
        self._embedding_adapters: dict[str, EmbeddingProvider] = {}
        self._speech_rows = {row.name: row for row in speech_rows}
        self._speech_adapters: dict[str, SpeechProvider] = {}
        self._image_rows = {row.name: row for row in image_rows}
        self._image_adapters: dict[str, ImageProvider] = {}
        for name in _TALKATIVE_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)

    @cached_property
    def auth(self) -> Auth:
        """Who is calling."""
        access = self.settings.supabase
        if access is None or self.supabase is None:
            return Auth(self.settings)
        users = Users(Tokens(access, self.exchange), Accounts(access, self.exchange), self.supabase.rpc, time.time)
        return Auth(self.settings, users)

    @cached_property
    def supabase(self) -> Supabase | None:
        """Rows and files; None without a Supabase project."""
        access = self.settings.supabase
        return None if access is None else Supabase(access, self.exchange, self.http)

    @cached_property
    def database(self) -> Circuit | None:
        """Its functions, for what lies on every request's way: fails at once while it is down."""
        return None if self.supabase is None else Circuit(self.supabase.rpc)

    @cached_property
    def limits(self) -> Limits:
        """What callers may do and spend."""
        return Limits(self.database, self._cap)

    @cached_property
    def stops(self) -> Stops:
        """What this process generates, and who wants it to stop."""
        return Stops(self.database)

    @cached_property
    def rollups(self) -> Rollups:
        """The dashboard's numbers, added up beside the traffic."""
        return Rollups(self.database)

    @cached_property
    def exchange(self) -> Exchange:
        """Requests to the services behind us, other than providers."""
        return Exchange(self._outbound.session)

    @cached_property
    def edge_config(self) -> EdgeConfig:
        """Flags and parameters, as they stand now. Without a store it is empty."""
        return EdgeConfig(self.settings.stores, self.exchange, freshness_s=self.settings.freshness_s)

    @cached_property
    def edge_config_writers(self) -> Sequence[Writer]:
        """Change the Edge Configs, each its own; none without VERCEL_TOKEN."""
        settings = self.settings
        if settings.vercel_token is None:
            return []
        api_url, token, team_id = settings.vercel_api_url, settings.vercel_token, settings.vercel_team
        return [
            Writer(self.exchange, api_url=api_url, store_id=store.id, token=token, team_id=team_id)
            for store in settings.stores
        ]

    @cached_property
    def flags(self) -> Flags:
        """Which provider a caller is assigned to."""
        return Flags(
            self.settings.provider_flag,
            self._flag_sources,
            on=list(dict.fromkeys([*(row.name for row in self._on), *self.settings.painters, *self.settings.speakers])),
            assignable=[row.name for row in self.assignable],
            tier=self.settings.tier,
            trusted_s=self.settings.freshness_s + 1,
        )

    @property
    def assignable(self) -> Sequence[Row]:
        """The vendors that a flag may name: flags of a demonstration must not displace vendors that are paid for."""
        hosted = any(not row.demo for row in self._on)
        return [row for row in self._on if not (row.demo and hosted)]

    @property
    def _on(self) -> Sequence[Row]:
        return [row for name, row in self._rows.items() if name in self.settings.vendors]

    @cached_property
    def _flag_sources(self) -> Sequence[Source]:
        """Where specs come from. Where no vendor keeps the gates' shares for us, the database's are laid over them."""
        if self.database is None or not isinstance(self.flag_store, DatabaseStore):
            return self._spec_sources
        database, freshness_s = self.database, self.settings.freshness_s
        return [Overlaid(source, database, freshness_s=freshness_s) for source in self._spec_sources]

    @cached_property
    def flag_store(self) -> FlagStore | None:
        """Who keeps the gates' shares; None where nobody can be told to change them."""
        settings = self.settings
        if settings.statsig_console_key is not None:
            return StatsigConsole(self.exchange, settings.statsig_console_url, settings.statsig_console_key)
        if writers := self.edge_config_writers:
            return EdgeConfigStore(writers, settings.experimentation_item)
        return None if self.database is None else DatabaseStore(self._spec_sources, self.database)

    @cached_property
    def rollouts(self) -> Rollouts | None:
        """Rollouts that drive themselves; None without a database that counts, or flags."""
        if self.supabase is None or self.flag_store is None or not self._spec_sources:
            return None
        from lib.rollouts import Rollouts  # noqa: PLC0415 - after an answer is soon enough

        rpc = partial(self.supabase.rpc, timeout_s=PATIENT_S)
        return Rollouts(rpc, self.flag_store, self._own_parameters, self.incidents, self._price_ratio)

    @cached_property
    def experiments(self) -> Experiments | None:
        """What experiments show; None without a database."""
        if self.supabase is None:
            return None
        from lib.experiments import Experiments  # noqa: PLC0415 - after an answer is soon enough

        return Experiments(partial(self.supabase.rpc, timeout_s=PATIENT_S), self.flags.document)

    async def _own_parameters(self) -> Parameters:
        """Those of no caller."""
        return await self.parameters_of("rollout", {"kind": "key", "role": "operator"})

    async def _price_ratio(self) -> float:
        """How much dearer the rollout's candidate is than what it replaces, for a short question and its answer."""
        row = self._rows[GATED_ARM]
        usage = Usage(1000, 500)
        prices = [await self.costs.usd(GATED_ARM, model, usage) for model in (CANDIDATE_MODEL, row.fast)]
        candidate, control = prices
        return float(candidate / control) if candidate and control else 1.0

    @cached_property
    def _spec_sources(self) -> Sequence[Source]:
        settings = self.settings
        sources: list[Source] = []
        if settings.stores:
            sources.append(EdgeConfigItem(self.edge_config, settings.experimentation_item))
        if settings.statsig_secret is not None:
            network = StatsigNetwork(
                self.exchange,
                cdn_url=settings.statsig_cdn_url,
                secret=settings.statsig_secret,
                freshness_s=settings.freshness_s,
            )
            sources.append(network)
        return sources

    @cached_property
    def parameters(self) -> Resolver:
        """What steers answers; without another source, the policy that the app was given."""
        policy = self.policy
        defaults = Parameters(
            fallback_order=policy.fallback_order,
            first_token_budget_ms=round(policy.first_token_s * 1000),
            hedge="off" if policy.hedge_s is None else round(policy.hedge_s * 1000),
            honour_retry_after=policy.honour_retry_after,
        )
        return Resolver(self.settings.experimentation_item, defaults)

    async def parameters_for(self, caller: Caller, request: Mapping[str, object] = NOTHING) -> Parameters:
        """The parameters of one request; `request` holds those that it sets itself."""
        return await self.parameters_of(caller.id, caller.traits, request)

    async def parameters_of(
        self, caller_id: str, traits: Mapping[str, str], request: Mapping[str, object] = NOTHING
    ) -> Parameters:
        """The same for whoever has this id and what rules may ask for."""
        snapshot = await self.edge_config.snapshot()
        context = {"environment": self.settings.environment, "user": {"id": caller_id, **traits}}
        return self.parameters.resolve(snapshot.items, context, request)

    def policy_for(self, parameters: Parameters) -> Policy:
        """The operator's part of the policy, as the parameters have it."""
        return replace(
            self.policy,
            first_token_s=parameters.first_token_budget_ms / 1000,
            hedge_s=parameters.hedge_s,
            hedge_adapts=parameters.hedge == "auto",
            honour_retry_after=parameters.honour_retry_after,
            fallback_order=parameters.fallback_order,
            fast_model=parameters.fast_model,
            strong_model=parameters.strong_model,
        )

    @cached_property
    def router(self) -> Router:
        """get_completion."""
        on = frozenset(self.settings.vendors)
        return Router(tuple(self._rows.values()), on, self.text_provider, self._health)

    @cached_property
    def embedding_router(self) -> EmbeddingRouter:
        """get_embeddings; lib/embeddings.py puts its calls on record."""
        rows = tuple(self._embedding_rows.values())
        return EmbeddingRouter(rows, frozenset(self.settings.embedders), self.embedding_provider)

    @cached_property
    def assets(self) -> Assets | None:
        """What belongs to callers; None without a Supabase project."""
        access = self.settings.supabase
        return None if self.database is None or access is None else Assets(self.database, Files(access, self.exchange))

    @cached_property
    def renderer(self) -> Renderer | None:
        """Pays for pictures and speech once; None without a project to keep them."""
        return None if self.assets is None else Renderer(self.assets, self.recorder, self._health)

    @cached_property
    def pictures(self) -> Pictures | None:
        """Draws; None without a Supabase project."""
        if self.renderer is None:
            return None
        rows = tuple(self._image_rows.values())
        return Pictures(rows, frozenset(self.settings.painters), self.image_provider, self.renderer)

    @cached_property
    def speaker(self) -> Speaker | None:
        """Reads aloud, and cleans recordings; None without a Supabase project."""
        if self.renderer is None or self.assets is None:
            return None
        rows, on = tuple(self._speech_rows.values()), frozenset(self.settings.speakers)
        return Speaker(rows, on, self.speech_provider, self.renderer, self.assets)

    @cached_property
    def voices(self) -> Voices | None:
        """Who can read aloud; None without a Supabase project."""
        if self.supabase is None:
            return None
        rows, on = tuple(self._speech_rows.values()), frozenset(self.settings.speakers)
        return Voices(self.supabase, rows, on, self.speech_provider)

    @cached_property
    def letters(self) -> Letters | None:
        """Sales letters; None without a Supabase project. Loads what makes films, which /api/vsl alone pays for."""
        if self.database is None or self.assets is None or self.pictures is None or self.speaker is None:
            return None
        from lib.letters import Letters, Steering, Vendors  # noqa: PLC0415
        from lib.vsl.price import Route  # noqa: PLC0415

        painters = [self._image_rows[name] for name in self._image_rows if name in self.settings.painters]
        readers = [self._speech_rows[name] for name in self._speech_rows if name in self.settings.speakers]
        vendors = Vendors(
            self.router,
            self.recorder,
            self.pictures,
            self.speaker,
            [Route(row.name, row.models[0].id) for row in painters],
            [Route(row.name, row.models[0].id) for row in readers],
        )
        steering = Steering(self.flags.provider, self.parameters_of, self.policy_for)
        secret = self.settings.session_secret
        return Letters(self.database, self.assets, self.limits, steering, vendors, secret)

    @property
    def upkeep(self) -> Sequence[Task]:
        """What is done on a schedule, beside what the database does itself."""
        tasks = list(TASKS)
        if (voices := self.voices) is not None:
            tasks.append(Task("voices", VOICES_S, lambda _rpc, _box_s: voices.sync()))
        if (assets := self.assets) is not None:
            tasks.append(Task("leftover assets", LEFTOVERS_S, lambda _rpc, _box_s: assets.sweep()))
        if (rollouts := self.rollouts) is not None:
            tasks.append(Task("rollouts", ROLLOUTS_S, lambda _rpc, _box_s: rollouts.run()))
        if (experiments := self.experiments) is not None:
            tasks.append(Task("experiments", EXPERIMENTS_S, lambda _rpc, _box_s: experiments.run()))
        settings = self.settings
        if (site_url := settings.site_url) is not None and (secret := settings.cron_secret) is not None:
            tasks.append(
                Task(
                    "sales letters", LETTERS_S, lambda _rpc, box_s: call_worker(self.exchange, site_url, secret, box_s)
                )
            )
        if self.watch is not None:
            tasks += self.watch.tasks(self._probe, self._price, self.recorder.sinks.flush)
        return tasks

    @cached_property
    def costs(self) -> Costs:
        """Prices."""
        return Costs()

    @cached_property
    def recorder(self) -> Recorder:
        """The events of every call."""
        settings = self.settings
        return Recorder(self.costs, region=settings.region, deployment=settings.deployment, sinks=self._sinks())

    @cached_property
    def tracker(self) -> GitHub | None:
        """The repository's issues; None without GITHUB_TOKEN and GITHUB_REPOSITORY."""
        github = self.settings.github
        if github is None:
            return None
        return GitHub(token=github.token, repository=github.repository, api_url=github.api_url)

    @cached_property
    def incidents(self) -> Incidents | None:
        """What goes wrong, and its issues; None without a database that could count it."""
        if self.supabase is None:
            return None
        rpc, redact = partial(self.supabase.rpc, timeout_s=PATIENT_S), Redactor(self.settings.secrets)
        return Incidents(rpc, self.tracker, redact, missing=GITHUB_VARIABLES, now=lambda: datetime.now(UTC))

    @cached_property
    def deploys(self) -> Deploys | None:
        """What webhooks tell of deployments; None without a database."""
        settings = self.settings
        if self.incidents is None or self.supabase is None:
            return None
        logs = None
        if settings.vercel_token is not None:
            api_url, token, team_id = settings.vercel_api_url, settings.vercel_token, settings.vercel_team
            logs = BuildLogs(self.exchange, api_url=api_url, token=token, team_id=team_id)
        return Deploys(partial(self.supabase.rpc, timeout_s=PATIENT_S), self.incidents, logs)

    @cached_property
    def failures(self) -> Failures:
        """What went wrong in this process and makes incidents."""
        known = {(row.name, model.id) for row in self._rows.values() for model in row.models}
        return Failures(known, time.monotonic)

    @cached_property
    def watch(self) -> Watch | None:
        """What rides on traffic, and the cron's tasks for incidents; None without a database."""
        if self.database is None or self.incidents is None or self.deploys is None:
            return None
        return Watch(
            self.database,
            self.incidents,
            self.deploys,
            self.failures,
            look=self._look,
            switches=self._switches,
            clock=time.monotonic,
        )

    def _look(self) -> list[Failure]:
        """What is wrong as far as this process can see: since the last look, or now."""
        lost, exhausted = Counter(self.recorder.sinks.losses), self.limits.exhausted
        found = [telemetry_failure(sink) for sink in sorted(lost - self._seen_lost)]
        found += [budget_failure()] if exhausted > self._seen_exhausted else []
        found += [breaker_failure(*key) for key in self._health.resting()]
        self._seen_lost, self._seen_exhausted = lost, exhausted
        return found

    async def _switches(self) -> tuple[frozenset[str], frozenset[str]]:
        flag = await self.flags.provider("health", {"kind": "key", "role": "operator"})
        return flag.killed, frozenset(self.settings.vendors)

    async def _probe(self) -> Sequence[tuple[Row, Listed]]:
        async def one(row: Row) -> tuple[Row, Listed]:
            return row, await listed(self.exchange, row, self.settings.vendors[row.name])

        return await asyncio.gather(*(one(row) for row in self._on))

    async def _price(self, provider: str, model: str, side: str) -> Decimal | None:
        """Ours, in dollars per million tokens; of a short prompt, since some vendors charge more for long ones."""
        usage = Usage(1000, 0) if side == "input" else Usage(0, 1000)
        price = await self.costs.usd(provider, model, usage)
        return None if price is None else price * 1000

    def _sinks(self) -> Sinks:
        settings = self.settings
        sinks: list[Sink] = []
        if self.database is not None:
            sinks.append(Outbox(SupabaseSink(self.database)))
        if settings.statsig_secret is not None:
            api_url, secret, tier = settings.statsig_api_url, settings.statsig_secret, settings.tier
            sinks.append(StatsigSink(self.exchange, api_url=api_url, secret=secret, tier=tier))
        if self.incidents is not None:
            sinks.append(self.failures)
        return Sinks(*sinks)

    async def after_answer(self, request_id: str) -> None:
        """What is left to do once an answer is sent, while its caller waits for nothing any more. Never raises."""
        await self.recorder.deliver(request_id)
        await self.rollups.keep_up()
        await self.flags.renew()
        if self.rollouts is not None:
            await self.rollouts.keep_up()
        if self.experiments is not None:
            await self.experiments.keep_up()
        if self.watch is not None:
            await self.watch.after_answer()

    def text_provider(self, name: str) -> TextProvider:
        """The adapter of a provider that is on."""
        if name not in self._adapters:
            row, access = self._rows[name], self.settings.vendors[name]
            self._adapters[name] = OpenAICompatible(
                row, api_key=access.api_key, base_url=access.base_url, poster=self._outbound.poster
            )
        return self._adapters[name]

    def embedding_provider(self, name: str) -> EmbeddingProvider:
        """The adapter of a vendor of embeddings that is on."""
        if name not in self._embedding_adapters:
            row, access = self._embedding_rows[name], self.settings.embedders[name]
            self._embedding_adapters[name] = OpenAIEmbeddings(
                row, api_key=access.api_key, base_url=access.base_url, http=self.http
            )
        return self._embedding_adapters[name]

    def speech_provider(self, name: str) -> SpeechProvider:
        """The adapter of a vendor of speech that is on."""
        if name not in self._speech_adapters:
            row, access = self._speech_rows[name], self.settings.speakers[name]
            self._speech_adapters[name] = ElevenLabs(
                row, api_key=access.api_key, base_url=access.base_url, http=self.http
            )
        return self._speech_adapters[name]

    def image_provider(self, name: str) -> ImageProvider:
        """The adapter of a vendor of pictures that is on."""
        if name not in self._image_adapters:
            row, access = self._image_rows[name], self.settings.painters[name]
            self._image_adapters[name] = Fal(row, api_key=access.api_key, base_url=access.base_url, http=self.http)
        return self._image_adapters[name]

    def http(self) -> httpx.AsyncClient:
        """The process's HTTP client, for SDKs. Imports its engine at the first call: use a thread."""
        return self._outbound.httpx()

    async def aclose(self) -> None:
        """Close what is open."""
        await self._outbound.aclose()


@cache
def current() -> App:
    """The app of this process, over its environment."""
    settle_process()
    return App(environment.load())


def settle_process() -> None:
    """What the whole process does less often than Python and the platform would have it.

    Python looks for cycles among objects whenever there are 700 more of them, which is in the middle of every few
    requests: a twelfth of what they cost. And Vercel's runtime looks for parts of Vercel's SDK five times per request,
    each time in every folder on the path: a fifth. A None among the loaded modules is Python's own way to say that
    there is no such module.
    """
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    if importlib.util.find_spec("vercel") is None:
        cast("dict[str, ModuleType | None]", sys.modules).update(dict.fromkeys(_VERCELS_SDK))
