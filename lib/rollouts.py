"""Drives rollouts: reads what was counted, lets the machine decide (lib/control/rollout.py), carries it out in order.

Between two ticks nothing is remembered here. Any instance may tick at any time, by cron or by traffic: the row's
version decides whose step counts, and a step that was cut off is taken up by the next tick, whoever does it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from lib.control import forecast
from lib.control.anytime import RANKS, RankSplit, Split
from lib.control.flag_stores import AtVersion, FlagStore
from lib.control.flags import EXPERIMENT, GATE, GATED_ARM, KILL
from lib.control.guardrails import GUARDRAILS, TIMINGS, Allowances, Baseline, Counters, Frozen, assess
from lib.control.parameters import Parameters
from lib.control.rollout import (
    Action,
    Announce,
    Command,
    Evidence,
    Params,
    Save,
    State,
    WriteShare,
    command,
    tick,
)
from lib.control.rollout_words import explain, percent, table
from lib.data.circuit import Rpc
from lib.errors import Conflict, DataFailed, ServiceFailed, Unavailable
from lib.ids import uuid7
from lib.incidents.incidents import Failure, Incidents

ROUNDS = 8
"""Steps that one tick may take one after the other; each is final by itself, so that the next tick may go on."""
LOOK_TIMEOUT_S = 5.0
FLAT_CUTS = 15

log = logging.getLogger("rollouts")


@dataclass(frozen=True, slots=True)
class Look:
    """What a tick starts from. `evidence.in_store` is filled in by who reads the store."""

    state: State
    params: Params
    evidence: Evidence


class _OvertakenError(Exception):
    """Another driver or operator has saved first: what was decided here was decided of what is past."""


class Rollouts:
    """The rollouts of this deployment."""

    def __init__(
        self,
        rpc: Rpc,
        store: FlagStore,
        parameters: Callable[[], Awaitable[Parameters]],
        incidents: Incidents | None,
        price_ratio: Callable[[], Awaitable[float]],
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`parameters` are those of now: a rollout takes over its own when it begins.

        `price_ratio` is what the candidate may cost where they name no `rollout_cost_ratio`.
        """
        self.store = store
        self._rpc = rpc
        self._parameters = parameters
        self._incidents = incidents
        self._price_ratio = price_ratio
        self._now = now
        self._clock = clock
        self._next_at = float("-inf")

    async def keep_up(self) -> None:
        """After an answer: tick what is due, once per `rollout_tick_s` over all instances. Never raises."""
        if self._clock() < self._next_at:
            return
        every_s = (await self._parameters()).rollout_tick_s
        self._next_at = self._clock() + every_s
        try:
            for gate in await self._rpc("due_rollouts", {"p_every_s": every_s}):
                await self.tick(gate)
        except DataFailed as error:
            log.info("rollouts wait: %s", error.reason)

    async def run(self) -> dict[str, Any]:
        """What the cron does: tick every rollout, whoever else did; `{gate: status}`. Raises DataFailed."""
        ticked = {gate: (await self.tick(gate)).status for gate in await self._rpc("due_rollouts", {})}
        await self._rpc("trim_rollouts", {})
        return ticked

    async def tick(self, gate: str) -> State:
        """Look, decide, carry out, and look again until nothing is left or something failed. Raises DataFailed."""
        look = await self._look(gate)
        await self._keep_reading(look)
        for _ in range(ROUNDS):
            _, actions = tick(look.state, look.evidence, look.params, self._now())
            try:
                if not actions or not await self._carry_out(actions, look):
                    break
            except _OvertakenError:
                break
            look = await self._look(gate)
        return look.state

    async def order(self, gate: str, name: Command) -> dict[str, Any]:
        """Do what an operator wants; the status after it. Raises Conflict, Unavailable and DataFailed."""
        if gate.startswith(KILL):
            raise Conflict(f"{gate} is an emergency switch: it is moved by hand, for all at once.")
        look = await self._look(gate)
        params = look.params
        if name in {"start", "restart"}:
            params = await self._params()
            look = replace(look, params=params)
        _, actions = command(
            look.state,
            name,
            in_store=look.evidence.in_store,
            params=params,
            now=self._now(),
            rollout_id=uuid7(),
        )
        try:
            done = await self._carry_out(actions, look)
        except _OvertakenError as error:
            raise Conflict("Somebody else has changed this rollout at the same moment: see where it is now.") from error
        if not done:
            raise Unavailable("Not all of it could be done just now; what was begun is taken up again by itself.")
        await self.tick(gate)
        return await self.status(gate)

    async def plan(self, gate: str) -> dict[str, Any]:
        """How long a rollout takes at this site's traffic; see forecast.plan. Raises Conflict and DataFailed."""
        found = await self._rpc(
            "rollout_traffic", {"p_experiment": EXPERIMENT, "p_arm": GATED_ARM}, timeout_s=LOOK_TIMEOUT_S
        )
        if found["baseline"] is None or not found["users"]:
            raise Conflict(
                f"There is too little traffic in the arm {GATED_ARM} yet to reckon with: 50 requests at least."
            )
        per_day = found["users"] / found["days"]
        params = await self._params()
        return {"gate": gate, "users_per_day": per_day, **forecast.plan(_baseline(found["baseline"]), params, per_day)}

    async def status(self, gate: str) -> dict[str, Any]:
        """See `shown`. Raises DataFailed."""
        return self.shown(await self._look(gate))

    async def history(self, begin: str, end: str) -> dict[str, Any]:
        """`{events, rollouts}`: what happened from `begin` to `end`, and each gate's status with its readings."""
        found = await self._rpc("rollout_history", {"p_from": begin, "p_to": end}, timeout_s=LOOK_TIMEOUT_S)
        rollouts = [
            {
                **await self.status(row["gate"]),
                "readings": [
                    {"at": each["at"], "percent": each["share"] * 100, "log_e": each["log_e"]}
                    for each in row["readings"]
                ],
            }
            for row in found["rollouts"]
        ]
        return {"events": found["events"], "rollouts": rollouts or [await self.status(GATE)]}

    def shown(self, look: Look) -> dict[str, Any]:
        """A rollout as people see it: where it is, why, and each test's evidence. Shares in percent."""
        state, evidence, params = look.state, look.evidence, look.params
        rows = table(evidence, params)
        return {
            "gate": state.gate,
            "rollout_id": state.rollout_id,
            "status": state.status,
            "percent": state.share * 100,
            "percent_in_store": None if evidence.in_store is None else evidence.in_store * 100,
            "stages": [share * 100 for share in params.stages],
            "since": state.since,
            "reason": state.reason,
            "words": explain(state, evidence, params, self._now()),
            "store": self.store.name,
            "treated": sum(split.treated for split in evidence.counters.exposed),
            "evidence": rows,
            "thresholds": {row["test"]: row["log_threshold"] for row in rows},
            "readings": [],
        }

    async def _look(self, gate: str) -> Look:
        usual = await self._params()
        given = {
            "p_gate": gate,
            "p_baseline_requests": usual.baseline_requests,
            "p_hourly": usual.hourly_cap_usd is not None,
        }
        found: Mapping[str, Any] = await self._rpc("look_at_rollout", given, timeout_s=LOOK_TIMEOUT_S)
        state, params = State(gate), usual
        if found["row"] is not None:
            state, params = _state(found["row"]), _params(found["row"]["params"])
        evidence = Evidence(
            await self._in_store(gate),
            last_event_at=found["last_event_at"],
            baseline=None if found["baseline"] is None else _baseline(found["baseline"]),
            counters=counters(found["counts"]),
            credentials_rejected=found["credentials_rejected"],
            spent_usd=found["spent_microusd"] / 1e6,
        )
        return Look(state, params, evidence)

    async def _params(self) -> Params:
        """How a rollout goes that begins now."""
        parameters = await self._parameters()
        allowed = parameters.rollout_cost_ratio or await self._price_ratio()
        return params_of(parameters, cost=allowed)

    async def _in_store(self, gate: str) -> float | None:
        try:
            return await self.store.share(gate)
        except ServiceFailed as error:
            log.warning("the share of %s can't be read (%s)", gate, error.code)
        except DataFailed as error:
            log.warning("the share of %s can't be read (%s)", gate, error.reason)
        return None

    async def _carry_out(self, actions: Sequence[Action], look: Look) -> bool:
        """In order; False where one failed, which ends it, except for a write of 0. Raises _OvertakenError."""
        for action in actions:
            done = await self._do(action, look)
            if not done and not (isinstance(action, WriteShare) and action.share == 0):
                return False
        return True

    async def _do(self, action: Action, look: Look) -> bool:
        match action:
            case WriteShare():
                return await self._write(look.state.gate, action)
            case Save():
                await self._save(action, look)
                return True
            case Announce():
                return await self._announce(action, look)

    async def _write(self, gate: str, action: WriteShare) -> bool:
        async def holds() -> bool:
            found = await self._rpc("look_at_rollout", {"p_gate": gate})
            return bool(found["row"]["version"] == action.version)

        still = None if action.version is None else AtVersion(action.version, holds)
        try:
            await self.store.set_share(gate, action.share, expected=action.expected, still=still)
        except (ServiceFailed, DataFailed) as error:
            code = error.reason if isinstance(error, DataFailed) else error.code
            log.warning("%s is not set to %s (%s)", gate, percent(action.share), code)
            return False
        log.info("%s is set to %s", gate, percent(action.share))
        return True

    async def _save(self, action: Save, look: Look) -> None:
        given = {
            "p_row": {**asdict(action.state), "params": asdict(look.params)},
            "p_kind": action.kind,
            "p_words": explain(action.state, look.evidence, look.params, self._now()),
            "p_evidence": {"tests": table(look.evidence, look.params)},
        }
        if not await self._rpc("save_rollout", given, timeout_s=LOOK_TIMEOUT_S):
            raise _OvertakenError

    async def _announce(self, action: Announce, look: Look) -> bool:
        """An issue for what people have to look into; that all is well is in the log and on the dashboard."""
        if action.notice == "done" or self._incidents is None:
            log.warning("rollout of %s: %s", look.state.gate, action.notice.replace("_", " "))
            return True
        return await self._incidents.open(failure(action, look, self._now())) is not None

    async def _keep_reading(self, look: Look) -> None:
        if look.state.status not in {"stage", "hold", "paused"}:
            return
        assessment = assess(look.evidence.counters, look.params.stages, tolerated=look.params.tolerated)
        log_e = {reading.test: reading.log_e for reading in assessment.readings}
        await self._rpc(
            "keep_rollout_reading",
            {"p_rollout_id": look.state.rollout_id, "p_share": look.state.share, "p_log_e": log_e},
        )


def params_of(parameters: Parameters, *, cost: float) -> Params:
    """How a rollout goes that begins with these runtime parameters, and may cost so many times as much."""
    return Params(
        stages=tuple(each / 100 for each in parameters.rollout_stages),
        dwell_s=parameters.rollout_dwell_s,
        fewest=parameters.rollout_fewest_users,
        cap=parameters.rollout_most_users,
        baseline_requests=parameters.rollout_baseline_requests,
        hourly_cap_usd=parameters.rollout_hourly_cap_usd,
        allowances=Allowances(
            ttft=parameters.rollout_latency_ratio,
            latency=parameters.rollout_latency_ratio,
            cost=cost,
        ),
    )


def counters(counts: Sequence[Sequence[Any]]) -> Counters:
    """The counters of rows `[what, share, treated, bucket, users]`."""
    splits: dict[str, dict[float, list[int]]] = {}
    ranks: dict[str, dict[float, list[list[int]]]] = {}
    for what, share, treated, bucket, users in counts:
        if what.endswith("_rank"):
            arms = ranks.setdefault(what.removesuffix("_rank"), {}).setdefault(share, [[0] * RANKS, [0] * RANKS])
            arms[0 if treated else 1][bucket] += users
        else:
            splits.setdefault(what, {}).setdefault(share, [0, 0])[0 if treated else 1] += users
    seen = splits.get("seen", {})
    return Counters(
        {name: [Split(share, *arms) for share, arms in sorted(splits.get(name, {}).items())] for name in GUARDRAILS},
        {
            name: [RankSplit(share, tuple(one), tuple(other)) for share, (one, other) in sorted(ranks[name].items())]
            for name in TIMINGS
            if name in ranks
        },
        [Split(share, *arms) for share, arms in sorted(seen.items())],
    )


def failure(action: Announce, look: Look, now: float) -> Failure:
    """What the incident says: why, and the evidence as a table."""
    gate, words = look.state.gate, explain(look.state, look.evidence, look.params, now)
    if action.notice == "store_unreachable":
        return Failure(
            kind="rollout",
            subject=f"rollout:{gate}:store",
            title=f"The flag store of {gate} can't be read: its rollout is on hold",
            cause=("store_unreachable",),
            facts={"gate": gate},
            hint="Nothing is raised until the store can be read again; then the rollout goes on by itself.",
        )
    rows = (
        (row["words"], f"{row['e']:.3g}", f"{row['threshold']:.0f}", _count(row["treated"]), _count(row["control"]))
        for row in table(look.evidence, look.params)
    )
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    header = (
        "| Test | e-value | Threshold | Users hit, candidate | Users hit, control |\n| --- | --- | --- | --- | --- |"
    )
    return Failure(
        kind="rollout",
        subject=f"rollout:{gate}",
        title=f"The rollout of {gate} was rolled back",
        # One issue per rollout: a restart that fails again is another one.
        cause=(action.notice, look.state.rollout_id),
        facts={"gate": gate, "rollout": look.state.rollout_id, "reason": look.state.reason or ""},
        hint="\n".join((f"{words} The gate is at 0 %; it stays there until somebody restarts it.", "", header, *lines)),
    )


def _count(users: int | None) -> str:
    return "" if users is None else str(users)


def _state(row: Mapping[str, Any]) -> State:
    given = {name: row[name] for name in State.__dataclass_fields__ if name != "baseline"}
    return State(**given, baseline=None if row["baseline"] is None else _baseline(row["baseline"]))


def _params(row: Mapping[str, Any]) -> Params:
    given: dict[str, Any] = {**row, "stages": tuple(row["stages"]), "allowances": Allowances(**row["allowances"])}
    return Params(**given)


def _baseline(row: Mapping[str, Any]) -> Baseline:
    frozen = {name: _frozen(cast("Mapping[str, Any]", row[name])) for name in ("ttft", "latency", "cost")}
    return Baseline(row["requests"], row["error_rate"], **frozen)


def _frozen(row: Mapping[str, Any]) -> Frozen:
    """Where nothing was measured, as where nothing has a price, nothing is above."""
    if row["threshold"] is None:
        return Frozen(float("inf"), (float("inf"),) * FLAT_CUTS)
    return Frozen(row["threshold"], tuple(row["cuts"]))
