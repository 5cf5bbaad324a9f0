"""A gate's way from 0 to 100 %: as fast as the evidence allows, back to 0 the moment that harm is proven. Pure.

    idle ──start──► baseline ──frozen──► stage 0 … stage n ──► done
                        ▲  ▲                │  ▲
                        │  └──── hold ◄─────┘  │   hold: no promotion while its reason lasts; ends by itself
                        │         └────────────┘
      restart (0 %) ────┴── rolled_back ◄── stage, hold, paused: a breach, or by hand
      paused: by an operator, or because somebody set the gate's share by hand, which wins

The rules:

1. `tick` says what follows from the state, what was counted and the time; it remembers nothing else, so that it may be
   called at any time, any number of times, by two drivers at once. A driver carries the actions out in order, stops at
   the first that fails, and ticks again, with the store read anew, until none is left or one failed.
2. `Save` is a compare-and-set on `version`. Who loses stops there: nothing after it is carried out.
3. Share up: the row first, then the store. Share to 0: the store first, then the row. So whatever crashes in between,
   the store never holds more than the row allows; and no raise is written but behind a `Save` that was won. Only a
   write of 0 may fail and what stands behind it still be carried out: the row then says `rolled_back`, people are told,
   and each tick writes 0 again until the store is read back as 0.
4. A share in the store that is neither the row's nor the one before it was set by hand. It wins and pauses the rollout;
   nothing is written until somebody resumes. While an operator's pause lasts, guardrails still roll back.
5. Nothing is guessed: a store that cannot be read, telemetry that is stale or missing, users who come to the arms other
   than by the share, rejected credentials, the hourly cap: hold.
6. Promotion needs the dwell time and the fewest users, no test above suspicion, and of each guardrail that harm of the
   tolerated size is ruled out, or as many users as the cap says. One stage at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from lib.control.guardrails import Allowances, Assessment, Baseline, Counters, assess
from lib.control.specs import same_share
from lib.errors import Conflict

Status: TypeAlias = Literal["idle", "baseline", "stage", "hold", "paused", "rolled_back", "done"]
Reason: TypeAlias = Literal[
    "breach",
    "by_operator",
    "set_by_hand",
    "store_unreachable",
    "store_behind",
    "credentials_rejected",
    "hourly_cap",
    "stale",
    "ratio",
    "fewest",
]
Command: TypeAlias = Literal["start", "pause", "resume", "roll_back", "restart"]
Kind: TypeAlias = Literal["started", "promoted", "held", "went_on", "paused", "resumed", "rolled_back", "done", "noted"]
Notice: TypeAlias = Literal["rolled_back", "done", "store_unreachable"]

STAGES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
SETTLED_S = 60.0
"""How long after a rollback a share above 0 counts as a late write of another driver, and not as somebody's hand."""


@dataclass(frozen=True, slots=True)
class Params:
    """How a rollout goes. Shares rise, from above 0 to 1; times in seconds.

    dwell_s: the least time in a stage. fewest: treated users of a stage without whom it is not left. cap: as many with
    whom it is left although harm was not ruled out, if nothing looks suspicious. baseline_requests: of the control,
    before thresholds are frozen. tolerated: the odds ratio of a guardrail that is to be ruled out. stale_s: the age of
    the last event from which on telemetry counts as broken. hourly_cap_usd: None for none.
    """

    stages: Sequence[float] = STAGES
    dwell_s: float = 600.0
    fewest: int = 100
    cap: int = 6000
    baseline_requests: int = 500
    tolerated: float = 2.0
    stale_s: float = 300.0
    hourly_cap_usd: float | None = None
    allowances: Allowances = field(default_factory=Allowances)


@dataclass(frozen=True, slots=True)
class State:
    """The row of a rollout.

    stage: index of the highest of the stages that is not above share, -1 before the first. share: what the store may
    hold at most, from 0 to 1. in_store: what it was last read to hold. since: when share or status last changed, in
    seconds of the clock on the wall. settled: of a rollback, that 0 was read back a while after. announced: that the
    notice of the end went out.
    """

    gate: str
    rollout_id: str = ""
    status: Status = "idle"
    stage: int = -1
    share: float = 0.0
    in_store: float = 0.0
    since: float = 0.0
    version: int = 0
    reason: Reason | None = None
    baseline: Baseline | None = None
    settled: bool = False
    announced: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a tick is told.

    in_store: the gate's share in the flag store, read for this tick, from 0 to 1; None where it could not be read.
    last_event_at: of any request that the gate was asked for. baseline: of the control's requests since the start, as
    soon as there are enough. credentials_rejected: the candidate's vendor answered 401 or 403 to one of the last
    minutes' calls. spent_usd: by treated calls in the last hour.
    """

    in_store: float | None
    last_event_at: float | None = None
    baseline: Baseline | None = None
    counters: Counters = field(default_factory=Counters)
    credentials_rejected: bool = False
    spent_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class WriteShare:
    """Set the gate's share in the flag store and read it back: 0 whatever it holds, more under two conditions.

    Only if the store holds `expected`, and the row still has this `version`: a store in the database checks both in
    one statement, for others the driver reads both right before it writes.
    """

    share: float
    expected: float | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Save:
    """Replace the row if its version is still one below the new one's; append `kind` to rollout_events with it."""

    state: State
    kind: Kind


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell people: an issue with the evidence, or a note. At least once: `key` is the same each time."""

    notice: Notice
    key: str


Action: TypeAlias = WriteShare | Save | Announce
Step: TypeAlias = tuple[State, list[Action]]


def tick(state: State, evidence: Evidence, params: Params, now: float) -> Step:
    """The state to be and what to do for it, in order; the same state and nothing where nothing follows."""
    if state.status == "idle":
        return state, []
    if state.status == "done":
        return (state, []) if state.announced else _announced(state)
    if state.status == "rolled_back":
        return _keep_at_zero(state, evidence, now)
    look = _Look(state, evidence, assess(evidence.counters, params.stages, tolerated=params.tolerated), params, now)
    steps = (rule(look) for rule in (_on_breach, _on_store, _on_pause, _on_hold, _on_promotion))
    nothing: Step = (state, [])
    return next((step for step in steps if step is not None), nothing)


def command(
    state: State, name: Command, *, in_store: float | None, params: Params, now: float, rollout_id: str = ""
) -> Step:
    """What an operator asked for; `in_store` as in Evidence, `rollout_id` a new one for start and restart.

    Raises Conflict, in words for the operator, where the state does not allow it.
    """
    if name in {"start", "restart"}:
        wanted = {"idle"} if name == "start" else {"rolled_back", "done"}
        if state.status not in wanted:
            raise Conflict(f"The rollout is {said(state.status)}, so it can't {name}.")
        if in_store is None or not same_share(in_store, 0):
            raise Conflict("The flag store has to be readable and the gate at 0 % before a rollout begins.")
        begun = State(state.gate, rollout_id, status="baseline", since=now, version=state.version)
        return _saved(begun, "started")
    if name == "roll_back":
        if state.status in {"idle", "rolled_back"}:
            raise Conflict(f"The rollout is {said(state.status)}: there is nothing to roll back.")
        return _rolled_back(state, "by_operator", now)
    if name == "pause":
        if state.status not in {"baseline", "stage", "hold"}:
            raise Conflict(f"The rollout is {said(state.status)}, so it can't be paused.")
        return _saved(replace(state, status="paused", reason="by_operator", since=now), "paused")
    return _resumed(state, in_store, params, now)


def said(status: Status) -> str:
    """A status in the middle of a sentence."""
    words: dict[Status, str] = {"idle": "not started", "rolled_back": "rolled back", "stage": "under way"}
    return words.get(status, "on hold" if status == "hold" else status)


def treated_in_stage(state: State, counters: Counters) -> int:
    """How many users were treated while the share of now was in force."""
    return sum(split.treated for split in counters.exposed if same_share(split.share, state.share))


@dataclass(frozen=True, slots=True)
class _Look:
    """All that a rule may look at."""

    state: State
    evidence: Evidence
    assessment: Assessment
    params: Params
    now: float


def _on_breach(look: _Look) -> Step | None:
    by_hand = look.state.status == "paused" and look.state.reason == "set_by_hand"
    return _rolled_back(look.state, "breach", look.now) if look.assessment.breaches and not by_hand else None


def _on_store(look: _Look) -> Step | None:
    """The store is out of reach, or holds another share than the row: a write was lost, or somebody set it by hand."""
    state, in_store = look.state, look.evidence.in_store
    if in_store is None:
        return _held(state, "store_unreachable")
    if same_share(in_store, state.share):
        return None if same_share(state.in_store, in_store) else _saved(replace(state, in_store=state.share), "noted")
    if same_share(in_store, state.in_store):
        if state.status == "paused":
            return state, []
        behind = state.status == "hold" and state.reason == "store_behind"
        after, actions = _saved(state, "noted") if behind else _held(state, "store_behind")
        return after, [*actions, WriteShare(state.share, in_store, after.version)]
    by_hand = replace(state, status="paused", reason="set_by_hand", share=in_store, in_store=in_store, since=look.now)
    return _saved(by_hand, "paused")


def _on_pause(look: _Look) -> Step | None:
    return (look.state, []) if look.state.status == "paused" else None


def _on_hold(look: _Look) -> Step | None:
    state = look.state
    reason = _reason_to_hold(look)
    if reason is not None:
        return _held(state, reason)
    return _saved(replace(state, status=_under_way(state), reason=None), "went_on") if state.status == "hold" else None


def _reason_to_hold(look: _Look) -> Reason | None:
    state, evidence, params = look.state, look.evidence, look.params
    late = evidence.last_event_at is None or look.now - evidence.last_event_at > params.stale_s
    lasted = look.now - state.since >= params.dwell_s
    few = treated_in_stage(state, evidence.counters) < params.fewest
    reasons: list[tuple[Reason, bool]] = [
        ("credentials_rejected", evidence.credentials_rejected),
        ("hourly_cap", params.hourly_cap_usd is not None and evidence.spent_usd >= params.hourly_cap_usd),
        ("ratio", look.assessment.ratio_broken),
        ("stale", state.stage >= 0 and late),
        ("fewest", state.stage >= 0 and lasted and few),
    ]
    return next((reason for reason, applies in reasons if applies), None)


def _on_promotion(look: _Look) -> Step | None:
    state, params = look.state, look.params
    if not _may_go_on(look):
        return None
    stage = state.stage + 1
    if stage == len(params.stages):
        return _saved(replace(state, status="done", since=look.now), "done")
    higher = params.stages[stage]
    baseline = state.baseline or look.evidence.baseline
    promoted = replace(state, status="stage", stage=stage, share=higher, since=look.now, baseline=baseline)
    after, actions = _saved(promoted, "promoted")
    return after, [*actions, WriteShare(higher, state.share, after.version)]


def _may_go_on(look: _Look) -> bool:
    state, params, assessment = look.state, look.params, look.assessment
    if state.stage < 0:
        baseline = state.baseline or look.evidence.baseline
        return baseline is not None and baseline.requests >= params.baseline_requests
    treated = treated_in_stage(state, look.evidence.counters)
    if look.now - state.since < params.dwell_s or treated < params.fewest or assessment.suspicious:
        return False
    return state.share >= 1 or not assessment.unproven or treated >= params.cap


def _held(state: State, reason: Reason) -> Step:
    """On hold, once. An operator's pause is no less of a hold."""
    if state.status == "paused" or (state.status == "hold" and state.reason == reason):
        return state, []
    # `since` stays: time on hold counts as time in the stage, since what is wanting is evidence and not time.
    after, actions = _saved(replace(state, status="hold", reason=reason), "held")
    if reason == "store_unreachable":
        actions.append(Announce("store_unreachable", f"rollout:{state.rollout_id}:store_unreachable"))
    return after, actions


def _rolled_back(state: State, reason: Reason, now: float) -> Step:
    after, actions = _saved(
        replace(state, status="rolled_back", reason=reason, share=0.0, since=now, settled=False, announced=False),
        "rolled_back",
    )
    return after, [WriteShare(0.0), *actions]


def _keep_at_zero(state: State, evidence: Evidence, now: float) -> Step:
    at_zero = evidence.in_store is not None and same_share(evidence.in_store, 0)
    zero: list[Action] = [] if at_zero or state.settled else [WriteShare(0.0)]
    if not state.announced:
        after, actions = _announced(state)
        return after, [*zero, *actions]
    if at_zero and not state.settled and now - state.since >= SETTLED_S:
        return _saved(replace(state, settled=True, in_store=0.0), "noted")
    return state, zero


def _announced(state: State) -> Step:
    after, actions = _saved(replace(state, announced=True), "noted")
    notice: Notice = "done" if state.status == "done" else "rolled_back"
    return after, [Announce(notice, f"rollout:{state.rollout_id}:{notice}"), *actions]


def _resumed(state: State, in_store: float | None, params: Params, now: float) -> Step:
    """Goes on from the share that is in the store, which somebody may have set: raising never removes a user."""
    if state.status != "paused":
        raise Conflict(f"The rollout is {said(state.status)}, so there is nothing to resume.")
    if in_store is None:
        raise Conflict("The flag store can't be read, so it is not known where to go on from.")
    stage = sum(share <= in_store or same_share(share, in_store) for share in params.stages) - 1
    if state.baseline is None and not same_share(in_store, 0):
        raise Conflict("There is no baseline yet: set the gate to 0 % first, or roll back and restart.")
    going = replace(state, stage=stage, share=in_store, in_store=in_store, since=now, reason=None)
    return _saved(replace(going, status=_under_way(going)), "resumed")


def _saved(state: State, kind: Kind) -> Step:
    after = replace(state, version=state.version + 1)
    return after, [Save(after, kind)]


def _under_way(state: State) -> Status:
    return "stage" if state.share > 0 else "baseline"
