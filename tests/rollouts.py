"""What the tests of rollouts share: a site over a database and an Edge Config, and users who come to it."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from lib.app import App
from lib.control.flags import GATE
from lib.control.specs import with_share
from lib.ids import uuid7
from lib.settings import from_environ
from tests.conftest import ACCESS, ROOT
from tests.fakes.loop import LoopThread
from tests.fakes.web import Asked, Told, Web, told

SPECS: dict[str, Any] = json.loads((ROOT / "local" / "items" / "statsig-local.json").read_text())
QUICK = {
    "rollout_stages": [10, 50, 100],
    "rollout_dwell_s": 1,
    "rollout_fewest_users": 20,
    "rollout_most_users": 100,
    "rollout_baseline_requests": 100,
    "rollout_tick_s": 1,
}
"""Parameters of a rollout that does not take hours."""


class Config:
    """An Edge Config with the flags and the parameters, whose gate may be set by hand."""

    def __init__(self, loop: LoopThread, **parameters: object) -> None:
        self.items: dict[str, Any] = {"ai_config": {**QUICK, **parameters}, "statsig": with_share(SPECS, GATE, 0)}
        for rule in self.items["statsig"]["dynamic_configs"][0]["rules"]:
            rule["returnValue"] = {"provider": "local", "model": "smollm2-135m-instruct"}
        self.down = False
        self.web = Web(loop, self._answer)
        self.url = f"{self.web.url}/ecfg_x?token=t"

    def set_by_hand(self, share: float) -> None:
        """Somebody does."""
        self.items = {**self.items, "statsig": with_share(copy.deepcopy(self.items["statsig"]), GATE, share)}

    def _answer(self, _: Asked) -> Told:
        return Told(500) if self.down else told(self.items)


def app_over(environ: Mapping[str, str], config: Config) -> App:
    """An instance."""
    given = {**ACCESS, **environ, "EDGE_CONFIG": config.url, "EDGE_CONFIG_FRESHNESS": "1"}
    return App(from_environ({**given, "LOCAL_TEXT_BASE_URL": "http://127.0.0.1:9/v1"}))


@dataclass
class Crowd:
    """Users who each send a request; their arm is what the flags say, what befalls them is drawn."""

    app: App
    seed: int
    errors: float = 0.02
    treated_errors: float = 0.02
    slower: float = 1.0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311 - made-up users

    async def come(self, users: int) -> int:
        """So many users of whom the gate is asked, each with one request; how many were treated."""
        assert self.app.supabase is not None
        batch: list[dict[str, Any]] = []
        treated = 0
        while len(batch) < users:
            caller = str(UUID(int=self.chance.getrandbits(128), version=4))
            flag = await self.app.flags.provider(caller)
            if flag.gate is None:
                continue
            is_treated = flag.gate_arm == "treatment"
            treated += is_treated
            failed = self.chance.random() < (self.treated_errors if is_treated else self.errors)
            times = self.chance.lognormvariate(0, 0.5) * (self.slower if is_treated else 1)
            batch.append(
                {
                    "id": uuid7(),
                    "request_id": uuid7(),
                    "created_at": datetime.now(UTC).isoformat(),
                    "user_id": caller,
                    "caller_kind": "guest",
                    "route": "/api/generate",
                    "provider": "local",
                    "model": "m",
                    "outcome": "error" if failed else "ok",
                    "error_code": "server_error" if failed else None,
                    "ttft_ms": None if failed else 100 * times,
                    "latency_ms": 300 * times,
                    "cost_microusd": 10,
                    "experiment": flag.name,
                    "experiment_arm": flag.arm,
                    "gate": flag.gate,
                    "gate_arm": flag.gate_arm,
                    "rollout_share": flag.gate_share,
                }
            )
        answer = await self.app.supabase.rpc("record_events", {"p_events": batch}, timeout_s=30)
        assert answer["rejected"] == []
        return treated


def kinds(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """What happened, without what is only noted."""
    return [kind for kind, *_ in rows if kind != "noted"]
