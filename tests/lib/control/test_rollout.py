"""The rollout's machine: what follows from which evidence; and no order of ticks, crashes and hands breaks a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lib.control.anytime import Split
from lib.control.guardrails import Counters
from lib.control.rollout import (
    Action,
    Announce,
    Command,
    Evidence,
    Reason,
    Save,
    State,
    Status,
    WriteShare,
    command,
    same_share,
    tick,
)
from lib.control.rollout_words import explain, table
from lib.errors import Conflict
from tests.lib.control.evidence import BASELINE, NOW, PARAMS, counters, seen

IDLE = State("groq_r1_v_production")
STAGE = replace(
    IDLE,
    rollout_id="r1",
    status="stage",
    stage=2,
    share=0.1,
    in_store=0.1,
    since=NOW - 700,
    version=7,
    baseline=BASELINE,
)
BREACH = counters(0.1, bad={"errors": (20, 20)})


def kinds(actions: Sequence[Action]) -> list[str]:
    """The actions in order, in short."""
    return [
        f"write {action.share:g}"
        if isinstance(action, WriteShare)
        else f"save {action.state.status}"
        if isinstance(action, Save)
        else f"announce {action.notice}"
        for action in actions
    ]


def started() -> State:
    """In its baseline."""
    return command(IDLE, "start", in_store=0, params=PARAMS, now=NOW, rollout_id="r1")[0]


def test_baseline_is_frozen_and_the_first_stage_begins() -> None:
    """The row first, then the store; and the thresholds never change again."""
    state = started()
    assert (state.status, state.rollout_id, state.share, state.version) == ("baseline", "r1", 0, 1)
    few = replace(seen(0), baseline=replace(BASELINE, requests=499))
    assert tick(state, few, PARAMS, NOW + 9) == (state, [])
    after, actions = tick(state, seen(0), PARAMS, NOW + 9)
    assert kinds(actions) == ["save stage", "write 0.01"]
    assert actions[1] == WriteShare(0.01, expected=0, version=2)
    assert (after.stage, after.share, after.in_store, after.since, after.baseline) == (0, 0.01, 0, NOW + 9, BASELINE)


def test_write_is_noted_once_it_is_read_back() -> None:
    """Else a hand that sets the share back would look like a write of ours that was lost."""
    after, actions = tick(replace(STAGE, in_store=0.05), seen(0.1), PARAMS, NOW)
    assert (kinds(actions), after.in_store, after.version) == (["save stage"], 0.1, 8)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.25, 0.5])
def test_promotion_goes_one_stage_up(share: float) -> None:
    """With dwell time, users and all harm ruled out."""
    index = PARAMS.stages.index(share)
    state = replace(STAGE, stage=index, share=share, in_store=share)
    after, actions = tick(state, seen(share, counters(share)), PARAMS, NOW)
    higher = PARAMS.stages[index + 1]
    assert actions == [Save(after, "promoted"), WriteShare(higher, expected=share, version=8)]
    assert (after.stage, after.share, after.status, after.since) == (index + 1, higher, "stage", NOW)


@pytest.mark.parametrize(
    ("state", "counted"),
    [
        (replace(STAGE, since=NOW - 599), counters(0.1)),
        (replace(STAGE, since=NOW + 500), counters(0.1)),
        (STAGE, counters(0.1, safe=False)),
        (STAGE, counters(0.1, bad={"cost": (0, 0)})),
        (STAGE, counters(0.1, bad={"ttft": (11, 30)}, treated=3000)),
        (STAGE, counters(0.1, ranks=(4, 0))),
        (STAGE, counters(0.1, safe=False, treated=1999)),
    ],
    ids=["early", "clock jumped back", "nothing proven", "one unproven", "suspicious", "suspicious rank", "below cap"],
)
def test_no_promotion_without_evidence(state: State, counted: Counters) -> None:
    """It stays where it is, and does nothing."""
    assert tick(state, seen(0.1, counted), PARAMS, NOW) == (state, [])


def test_cap_is_enough_without_suspicion() -> None:
    """Where hardly anything ever goes wrong, nothing can be ruled out by what went wrong."""
    after, _ = tick(STAGE, seen(0.1, counters(0.1, safe=False, treated=2000)), PARAMS, NOW)
    assert after.share == 0.25


def test_done_after_the_last_stage() -> None:
    """Everybody was treated for a while: done, and people are told once."""
    last = replace(STAGE, stage=5, share=1.0, in_store=1.0)
    assert tick(replace(last, since=NOW - 10), seen(1.0, counters(1.0)), PARAMS, NOW)[1] == []
    done, actions = tick(last, seen(1.0, counters(1.0)), PARAMS, NOW)
    assert kinds(actions) == ["save done"]
    told, actions = tick(done, seen(1.0), PARAMS, NOW)
    assert kinds(actions) == ["announce done", "save done"]
    assert tick(told, seen(0.3, BREACH), PARAMS, NOW + 9) == (told, [])


@pytest.mark.parametrize("state", [STAGE, replace(STAGE, status="hold", reason="stale"), replace(STAGE, since=NOW)])
def test_breach_writes_zero_first(state: State) -> None:
    """Then the row, then people are told; whatever else is the matter."""
    evidence = replace(seen(None, BREACH), credentials_rejected=True, last_event_at=None)
    back, actions = tick(state, evidence, PARAMS, NOW)
    assert actions == [WriteShare(0), Save(back, "rolled_back")]
    assert (back.status, back.share, back.reason, back.version) == ("rolled_back", 0, "breach", 8)
    told, actions = tick(back, seen(0, BREACH), PARAMS, NOW)
    assert actions == [Announce("rolled_back", "rollout:r1:rolled_back"), Save(told, "noted")]


def test_rollback_is_written_until_it_is_read_back() -> None:
    """A store that was out of reach, or a late write of another driver: 0 again, for a minute at least."""
    back = replace(STAGE, status="rolled_back", share=0.0, since=NOW, reason="breach", announced=True)
    for in_store in (None, 0.1, 0.25):
        assert tick(back, seen(in_store), PARAMS, NOW + 300) == (back, [WriteShare(0)])
    assert tick(back, seen(0), PARAMS, NOW + 59) == (back, [])
    settled, actions = tick(back, seen(0), PARAMS, NOW + 60)
    assert (kinds(actions), settled.settled) == (["save rolled_back"], True)
    # From then on it is somebody's hand.
    assert tick(settled, seen(0.1), PARAMS, NOW + 90) == (settled, [])


@pytest.mark.parametrize(
    ("reason", "evidence"),
    [
        ("store_unreachable", seen(None, counters(0.1))),
        ("credentials_rejected", replace(seen(0.1, counters(0.1)), credentials_rejected=True)),
        ("hourly_cap", replace(seen(0.1, counters(0.1)), spent_usd=5.0)),
        ("stale", seen(0.1, counters(0.1), now=NOW - 301)),
        ("stale", replace(seen(0.1, counters(0.1)), last_event_at=None)),
        ("ratio", seen(0.1, replace(counters(0.1), exposed=[Split(0.1, 2400, 17600)]))),
        ("fewest", seen(0.1, counters(0.1, treated=49))),
    ],
)
def test_hold(reason: Reason, evidence: Evidence) -> None:
    """The share stays, nobody is promoted, it says why, and goes on by itself."""
    params = replace(PARAMS, hourly_cap_usd=5.0)
    held, actions = tick(STAGE, evidence, params, NOW)
    assert (held.status, held.reason, held.share, held.since) == ("hold", reason, 0.1, STAGE.since)
    assert kinds(actions) == ["save hold"] + ["announce store_unreachable"] * (reason == "store_unreachable")
    assert tick(held, evidence, params, NOW) == (held, [])
    assert explain(held, evidence, params, NOW).startswith("At 10 %, on hold: ")
    going, actions = tick(held, seen(0.1, counters(0.1)), params, NOW)
    assert (going.status, going.reason, kinds(actions)) == ("stage", None, ["save stage"])


def test_waiting_for_users_is_no_hold_at_first() -> None:
    """Every stage begins without any."""
    state = replace(STAGE, since=NOW - 30)
    assert tick(state, seen(0.1, counters(0.1, treated=0)), PARAMS, NOW) == (state, [])


def test_lost_write_is_repeated() -> None:
    """The store still holds what it held before the raise: on hold until it has the new share, behind a won Save."""
    state = replace(STAGE, in_store=0.05)
    held, actions = tick(state, seen(0.05), PARAMS, NOW)
    assert actions == [Save(held, "held"), WriteShare(0.1, expected=0.05, version=8)]
    again, actions = tick(held, seen(0.05), PARAMS, NOW)
    assert actions == [Save(again, "noted"), WriteShare(0.1, expected=0.05, version=9)]
    noted, _ = tick(again, seen(0.1), PARAMS, NOW)
    assert tick(noted, seen(0.1, counters(0.1)), PARAMS, NOW)[0].status == "stage"


@pytest.mark.parametrize("by_hand", [0.0, 0.03, 0.05, 0.5, 1.0])
def test_hand_wins(by_hand: float) -> None:
    """Paused at what somebody set, up or down; nothing is written, not even after a breach."""
    paused, actions = tick(STAGE, seen(by_hand), PARAMS, NOW)
    assert (kinds(actions), paused.share, paused.reason) == (["save paused"], by_hand, "set_by_hand")
    assert tick(paused, seen(by_hand, BREACH), PARAMS, NOW + 9) == (paused, [])
    assert "by hand" in explain(paused, seen(by_hand), PARAMS, NOW)


def test_resuming_goes_on_from_there() -> None:
    """From the share of the hand to the next stage above it: raising never removes a user."""
    paused, _ = tick(STAGE, seen(0.3), PARAMS, NOW)
    going, actions = command(paused, "resume", in_store=0.3, params=PARAMS, now=NOW)
    assert (going.status, going.stage, going.share, kinds(actions)) == ("stage", 3, 0.3, ["save stage"])
    later = NOW + 601
    after, _ = tick(going, seen(0.3, counters(0.3), now=later), PARAMS, later)
    assert after.share == 0.5


def test_resuming_from_zero_needs_no_second_baseline() -> None:
    """The thresholds were frozen; without any there is nothing to judge by."""
    paused, _ = tick(STAGE, seen(0.0), PARAMS, NOW)
    going, _ = command(paused, "resume", in_store=0.0, params=PARAMS, now=NOW)
    assert tick(going, replace(seen(0), baseline=None), PARAMS, NOW)[0].share == 0.01
    with pytest.raises(Conflict, match="no baseline"):
        command(replace(paused, baseline=None), "resume", in_store=0.2, params=PARAMS, now=NOW)


def test_operator_pauses() -> None:
    """Nobody is promoted meanwhile, but harm still rolls back; the dwell time begins anew."""
    paused, _ = command(STAGE, "pause", in_store=0.1, params=PARAMS, now=NOW)
    assert tick(paused, seen(0.1, counters(0.1)), PARAMS, NOW + 5000) == (paused, [])
    assert tick(paused, seen(None), PARAMS, NOW) == (paused, [])
    assert kinds(tick(paused, seen(0.1, BREACH), PARAMS, NOW)[1]) == ["write 0", "save rolled_back"]
    going, _ = command(paused, "resume", in_store=0.1, params=PARAMS, now=NOW + 5000)
    assert (going.status, going.stage, going.since) == ("stage", 2, NOW + 5000)


def test_pause_leaves_a_lost_write_undone() -> None:
    """The store still holds what it held before the raise, which nobody's hand did; and nobody raises it now."""
    paused, _ = command(replace(STAGE, in_store=0.05), "pause", in_store=0.05, params=PARAMS, now=NOW)
    assert tick(paused, seen(0.05), PARAMS, NOW) == (paused, [])
    going, _ = command(paused, "resume", in_store=0.05, params=PARAMS, now=NOW)
    assert (going.stage, going.share, going.in_store) == (1, 0.05, 0.05)


def test_operator_rolls_back_and_restarts() -> None:
    """Rolled back is for good, until a person restarts, under a new id and with a new baseline."""
    back, actions = command(STAGE, "roll_back", in_store=0.1, params=PARAMS, now=NOW)
    assert kinds(actions) == ["write 0", "save rolled_back"]
    assert explain(back, seen(0), PARAMS, NOW) == "Rolled back by an operator."
    again, _ = command(back, "restart", in_store=0.0, params=PARAMS, now=NOW, rollout_id="r2")
    assert again == State(STAGE.gate, "r2", "baseline", since=NOW, version=9)


@pytest.mark.parametrize(
    ("status", "name", "in_store"),
    [
        *(("idle", name, 0.0) for name in ("pause", "resume", "roll_back", "restart")),
        *(("stage", name, 0.1) for name in ("start", "restart", "resume")),
        *(("rolled_back", name, 0.0) for name in ("start", "pause", "resume", "roll_back")),
        *(("done", name, 1.0) for name in ("start", "pause", "resume", "restart")),
        ("idle", "start", None),
        ("idle", "start", 0.05),
        ("paused", "pause", 0.1),
        ("paused", "resume", None),
    ],
)
def test_commands_that_make_no_sense(status: Status, name: Command, in_store: float | None) -> None:
    """They are refused, in words."""
    with pytest.raises(Conflict):
        command(replace(STAGE, status=status), name, in_store=in_store, params=PARAMS, now=NOW, rollout_id="r9")


@pytest.mark.parametrize("status", ["idle", "baseline", "stage", "hold", "paused", "rolled_back", "done"])
def test_every_state_can_say_why(status: Status) -> None:
    """One sentence each, and a table of all six tests."""
    state = replace(STAGE, status=status, reason="stale")
    evidence = seen(0.1, counters(0.1, bad={"errors": (20, 20)}))
    assert explain(state, evidence, PARAMS, NOW).endswith(".")
    rows = table(evidence, PARAMS)
    assert [row["test"] for row in rows] == ["errors", "ttft", "latency", "cost", "ttft_rank", "latency_rank"]
    assert (rows[0]["breached"], rows[0]["treated"], rows[0]["control"], rows[0]["safe"]) == (True, 20, 20, 0)
    assert (rows[1]["breached"], rows[1]["safe"], rows[4]["treated"]) == (False, 1, None)


@pytest.mark.parametrize(
    ("state", "counted", "words"),
    [
        (replace(STAGE, since=NOW), counters(0.1), "nothing looks worse; goes on in 10 minutes at the earliest"),
        (STAGE, counters(0.1, ranks=(4, 0)), "time to first token may be worse, which is neither proven nor ruled out"),
        (STAGE, counters(0.1, bad={"cost": (0, 0)}), "not yet ruled out that cost became 2 times as likely; 100 users"),
        (STAGE, counters(0.1), "goes on with the next tick"),
    ],
)
def test_stage_says_what_it_waits_for(state: State, counted: Counters, words: str) -> None:
    """So that a person knows whether to wait."""
    assert explain(state, seen(0.1, counted), PARAMS, NOW).startswith(f"At 10 %: {words}")


@dataclass
class Driver:
    """One process's turn: what it read, and what of its actions is still to do."""

    todo: list[Action]


class Rollouts(RuleBasedStateMachine):
    """Two drivers, an operator, somebody at the store, a clock that jumps, and everything that can fail."""

    @initialize()
    def begin(self) -> None:
        """Idle, at 0 %."""
        self.row = IDLE
        self.store = 0.0
        self.reachable = True
        self.now = NOW
        self.health = "unproven"
        self.touched = False
        self.drivers = [Driver([]), Driver([])]
        self.ids = 0

    def evidence(self) -> Evidence:
        """What a tick would be told now."""
        share = self.row.share or 0.01
        if self.health == "breach":
            counted = counters(share, bad={"errors": (400, 20)})
        else:
            counted = counters(share, treated=10 if self.health == "few" else 100, safe=self.health == "healthy")
        last = None if self.health == "stale" else self.now
        return replace(seen(self.store if self.reachable else None, counted), last_event_at=last)

    def carry_out(self, action: Action) -> bool:
        """As a driver does: whether to go on with the next one."""
        if isinstance(action, Save):
            if self.row.version != action.state.version - 1:
                return False
            self.check(self.row, action.state)
            self.row = action.state
            self.touched = self.touched and not same_share(self.row.share, self.store)
        elif isinstance(action, WriteShare):
            if not self.reachable:
                return action.share == 0
            if action.version is not None:
                if self.row.version != action.version or action.expected != self.store:
                    return False
                assert action.share <= self.row.share
            self.store, self.touched = action.share, False
        return True

    def check(self, before: State, after: State) -> None:
        """The end is the end, but for a restart and for a person who rolls back what is done."""
        if before.status in {"rolled_back", "done"} and after.status != before.status:
            assert after.rollout_id != before.rollout_id or (before.status, after.status) == ("done", "rolled_back")

    @rule(which=st.integers(0, 1))
    def read_and_decide(self, which: int) -> None:
        """A driver reads all and decides; what it had left undone it has died of."""
        after, actions = tick(self.row, self.evidence(), PARAMS, self.now)
        self.drivers[which].todo = actions
        if after.share > self.row.share and self.reachable and same_share(self.store, self.row.share):
            # Nobody's hand: so it was the evidence, one stage up and not too soon.
            assert after.share == min(share for share in PARAMS.stages if share > self.row.share)
            if self.row.stage >= 0:
                assert self.health == "healthy"
                assert self.now - self.row.since >= PARAMS.dwell_s

    @rule(which=st.integers(0, 1))
    def do_one(self, which: int) -> None:
        """One of its actions."""
        todo = self.drivers[which].todo
        if todo and not self.carry_out(todo.pop(0)):
            todo.clear()

    @rule(which=st.integers(0, 1))
    def crash(self, which: int) -> None:
        """Between any two."""
        self.drivers[which].todo.clear()

    @rule(share=st.sampled_from([0.0, 0.01, 0.03, 0.25, 1.0]))
    def hand(self, share: float) -> None:
        """Somebody sets the share in the store's console."""
        self.store = share
        self.touched = not same_share(share, self.row.share)

    @rule(name=st.sampled_from(["start", "pause", "resume", "roll_back", "restart"]))
    def operator(self, name: Command) -> None:
        """A command, carried out at once."""
        self.ids += 1
        in_store = self.store if self.reachable else None
        try:
            _, actions = command(
                self.row, name, in_store=in_store, params=PARAMS, now=self.now, rollout_id=f"r{self.ids}"
            )
        except Conflict:
            return
        for action in actions:
            if not self.carry_out(action):
                break

    @rule(seconds=st.sampled_from([-5000.0, -30.0, 30.0, 700.0, 90000.0]))
    def clock(self, seconds: float) -> None:
        """Time passes, or jumps."""
        self.now += seconds

    @rule(health=st.sampled_from(["healthy", "healthy", "unproven", "few", "stale", "breach"]))
    def candidate(self, health: str) -> None:
        """What the counters say."""
        self.health = health

    @rule()
    def outage(self) -> None:
        """The store goes away, or comes back."""
        self.reachable = not self.reachable

    @precondition(lambda self: not self.touched)
    @invariant()
    def never_above_what_the_row_allows(self) -> None:
        """Unless somebody just set it so."""
        assert self.store <= self.row.share or (self.row.status == "rolled_back" and not self.row.settled)

    @invariant()
    def share_is_zero_at_both_ends(self) -> None:
        """Nobody is treated by a row that is idle, measuring or rolled back."""
        if self.row.status in {"idle", "baseline", "rolled_back"}:
            assert self.row.share == 0

    def teardown(self) -> None:
        """In the end, with nothing in the way, store and row agree, and a tick finds nothing left to do."""
        self.reachable = True
        if self.row.status in {"idle", "done"} or self.row.settled:
            return
        self.health = "unproven"
        for _ in range(20):
            self.now += 61
            _, actions = tick(self.row, self.evidence(), PARAMS, self.now)
            for action in actions:
                if not self.carry_out(action):
                    break
        assert same_share(self.store, self.row.share)
        assert tick(self.row, self.evidence(), PARAMS, self.now) == (self.row, [])


Rollouts.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_rules_hold_in_any_order = Rollouts.TestCase
