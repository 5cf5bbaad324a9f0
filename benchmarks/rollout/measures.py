"""Each promise, and how often it is kept: by the thousand, on both cores, seeds fixed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from math import ceil, comb, inf, log, sqrt
from statistics import mean, median
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from benchmarks.report import Goal, Section
from benchmarks.rollout.play import MOST_LOOKS, PARAMS, End, play
from benchmarks.rollout.worlds import HEALTHY, Candidate, People, Singles
from lib.control.anytime import Split, log_e
from lib.control.guardrails import BUDGETS, Counters, Test, assess
from lib.control.rollout import STAGES, Evidence, Params, State, tick

LONG = Params(dwell_s=0, fewest=250)
"""Stages that last longer than evidence needs: more chances for a false alarm."""
FLAGGER_MOST_ERRORS, FLAGGER_CHECKS, FLAGGER_THRESHOLD = 0.01, 50, 5
"""Its documentation's example: request-success-rate min 99, rolled back after five checks that failed, of fifty."""
LATE_MOST = 3000
"""Treated users after whom a harm that began late counts as never found."""
Found = TypeVar("Found")


def on_all_cores(one: Callable[[int], Found], runs: int) -> list[Found]:
    """The same with seeds 0, 1, 2 and so on."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, range(runs), chunksize=max(1, runs // 200)))


def percentile(values: Iterable[float], part: float) -> float:
    """The smallest value that at least this part of a hundred does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(part / 100 * len(ordered)) - 1)]


def upper_bound(found: int, runs: int, confidence: float = 0.99) -> float:
    """The exact upper confidence bound of a chance that showed `found` times in `runs` (Clopper, Pearson, 1934)."""
    low, high = found / runs, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        fewer = (
            sum(comb(runs, k) * middle**k * (1 - middle) ** (runs - k) for k in range(found + 1)) if middle < 1 else 0
        )
        low, high = (middle, high) if fewer > 1 - confidence else (low, middle)
    return high


@dataclass
class Peers:
    """What others would have done with the same users.

    Flagger's rule, z-tests that are peeked at, and our own test fed with every bad request, not with each user's first.
    """

    world: People
    failed_checks: int = 0
    checks: int = 0
    wrong: set[str] = field(default_factory=set[str])

    def look(self, _: float) -> None:
        """After each look."""
        asked, failed = self.world.latest
        self.checks += 1
        self.failed_checks += bool(asked) and failed / asked > FLAGGER_MOST_ERRORS
        if self.checks <= FLAGGER_CHECKS and self.failed_checks >= FLAGGER_THRESHOLD:
            self.wrong.add("Flagger")
        (treated, control), (bad, usual) = self.world.requests, self.world.failed
        pooled = (bad + usual) / (treated + control)
        error = sqrt(pooled * (1 - pooled) * (1 / treated + 1 / control)) if treated and control else 0
        z = (bad / treated - usual / control) / error if error else 0
        for name, border in (("z-test, p < 0.05", 1.959964), ("z-test, p < 0.001", 3.290527)):
            if z > border:
                self.wrong.add(name)
        every = [Split(share, *counts) for share, counts in self.world.by_request.items()]
        if log_e(every) >= log(1 / BUDGETS["errors"]):
            self.wrong.add("every request counted")


def _no_harm(seed: int) -> tuple[End, set[str]]:
    world = People(np.random.default_rng([1, seed]), HEALTHY, 0.005)
    peers = Peers(world)
    return play(world, per_look=8, params=LONG, watch=peers.look), peers.wrong


def false_alarms(runs: int = 10_000) -> Section:
    """How often a healthy candidate is rolled back."""
    begin = perf_counter()
    found = on_all_cores(_no_harm, runs)
    took = perf_counter() - begin
    ends = [end for end, _ in found]
    back = [end for end in ends if end.status == "rolled_back"]
    tests = Counter(test for end in back for test in end.tests)
    peers = Counter(name for _, wrong in found for name in wrong)
    section = Section(
        "False alarms",
        f"{runs:,} whole staged rollouts of a candidate that differs in nothing. Users ask 2.5 times a visit, three of"
        " ten visits are by somebody who was there before, some users fail often and some are slow; days are slower and"
        " faster and one outage befalls both arms. Looked at whenever 8 more users were treated: "
        f"{mean(end.looks for end in ends):.0f} looks and {mean(end.treated for end in ends):,.0f} treated"
        " users each.",
        ["rolled back, though nothing was wrong", "of 100", "99 % bound"],
    )
    bound = upper_bound(len(back), runs)
    section.rows.append(["this rollout", 100 * len(back) / runs, 100 * bound])
    section.rows += [[f"- by its test of {test}", 100 * tests[test] / runs, None] for test in BUDGETS]
    for name in ("every request counted", "Flagger", "z-test, p < 0.05", "z-test, p < 0.001"):
        section.rows.append([_PEERS[name], 100 * peers[name] / runs, None])
    section.goals.append(Goal("false rollbacks, 99 % upper bound", 100 * bound, 1.0, " %"))
    section.goals.append(Goal("all of them within", took / 60, 30, " min"))
    held = [end for end in ends if end.looks >= MOST_LOOKS]
    done = [end for end in ends if end.status != "rolled_back" and end.looks < MOST_LOOKS]
    section.notes.append(
        f"{len(done):,} came to 100 %, with {median(end.treated for end in done):,.0f} treated users at the median;"
        f" {len(held):,} stood on hold in the end, waiting for somebody to decide."
    )
    return section


_PEERS = {
    "every request counted": "the same test of errors, every bad request counted",
    "Flagger": "Flagger: 5 failed checks of 50, success rate below 99 %",
    "z-test, p < 0.05": "z-test of error rates at every look, p < 0.05",
    "z-test, p < 0.001": "z-test of error rates at every look, p < 0.001",
}


def _staged(candidate: Candidate, rate: float, per_look: int, known: float | None, seed: int) -> tuple[End, float]:
    """A rollout, and after how many treated users a test that knows the error ratio would have ended it; else inf."""
    world = Singles(np.random.default_rng([2, seed]), candidate, rate)
    oracle = inf

    def watch(_: float) -> None:
        nonlocal oracle
        splits = [Split(share, *counts[0].tolist()) for share, counts in world.tally.bad.items()]
        if known and oracle == inf and log_e(splits, bets=(known,)) >= log(1 / BUDGETS["errors"]):
            oracle = world.tally.treated

    end = play(world, per_look=per_look, watch=watch)
    while known and oracle == inf:
        world.look(STAGES[0], round(per_look / STAGES[0]))
        watch(STAGES[0])
    return end, oracle


def odds(rate: float, to: float) -> float:
    """The odds ratio between two error rates."""
    return to / (1 - to) / (rate / (1 - rate))


def _row(name: str, ends: Sequence[End]) -> list[Any]:
    caught = [end for end in ends if end.status == "rolled_back"]
    treated = [end.treated for end in caught] or [inf]
    parts = [percentile(treated, part) for part in (50, 80, 95)]
    return [name, 100 * len(caught) / len(ends), *parts, float(median([end.bad for end in caught] or [0]))]


def detection(runs: int = 1000) -> Section:
    """How many users meet a harm before it is found."""
    section = Section(
        "Harm from the beginning",
        f"{runs:,} staged rollouts each, from 1 % on, of candidates that are worse from the start. One request per"
        " user, so rates are per user; 1 % errors, lognormal times with a spread of 0.5, cost 0.6. Looked at after"
        " every 2 to 20 more treated users, the more the longer it takes; after each one in the outage.",
        ["treated users until rolled back", "found in %", "p50", "p80", "p95", "of them failed, p50"],
    )
    cases: dict[str, tuple[Candidate, int]] = {
        "errors 1 → 2 %": (Candidate(errors=odds(0.01, 0.02)), 20),
        "errors 1 → 3 %": (Candidate(errors=odds(0.01, 0.03)), 5),
        "errors 1 → 10 %": (Candidate(errors=odds(0.01, 0.1)), 2),
        "total outage": (Candidate(errors=1e12), 1),
        "first token +30 %": (Candidate(ttft=1.3), 2),
        "first token and total +30 %": (Candidate(ttft=1.3, latency=1.3), 2),
        "first token +15 %": (Candidate(ttft=1.15), 5),
        "cost +20 %": (Candidate(cost=1.2), 5),
        "cost +50 %": (Candidate(cost=1.5), 2),
    }
    rows: dict[str, list[Any]] = {}
    oracle = 0.0
    for name, (candidate, per_look) in cases.items():
        known = candidate.errors if name == "errors 1 → 3 %" else None
        found = on_all_cores(partial(_staged, candidate, 0.01, per_look, known), runs)
        rows[name] = _row(name, [end for end, _ in found])
        if known:
            oracle = mean(known for _, known in found)
    section.rows += rows.values()
    section.goals += [
        Goal(
            "errors 1 → 3 %: median to the mean of a test that knows the ratio",
            rows["errors 1 → 3 %"][2] / oracle,
            1.15,
        ),
        Goal("errors 1 → 3 %, p95", rows["errors 1 → 3 %"][4], 1500),
        Goal("first token +30 %, p95 of the rollout", rows["first token +30 %"][4], 130),
        Goal("cost +50 %, p95", rows["cost +50 %"][4], 200),
        Goal("total outage, p95", rows["total outage"][4], 5),
    ]
    section.notes.append(
        f"A test that knows beforehand that errors grow to 3 %, on the same users: {oracle:,.0f} treated at the mean."
    )
    return section


def _each_test(candidate: Candidate, share: float, most: int, seed: int) -> dict[Test, float]:
    """After how many treated users each test alone finds it, at one share."""
    world = Singles(np.random.default_rng([3, seed]), candidate, 0.01)
    found: dict[Test, float] = {}
    while world.tally.treated < most and len(found) < 2:  # noqa: PLR2004 - by rank and by threshold
        tally = world.look(share, round(2 / share))
        for reading in assess(tally.counters(), STAGES, tolerated=2).readings:
            if reading.breached and reading.test in {"ttft", "ttft_rank"}:
                found.setdefault(reading.test, tally.treated)
    return found


def by_rank(runs: int = 1000) -> Section:
    """What the test by rank is worth."""
    section = Section(
        "By rank and by threshold",
        f"First token +30 %, spread 0.5: {runs:,} runs, both on the same users, each at its threshold of 1,000.",
        ["treated users until found", "p50", "p80", "p95"],
    )
    for share in (0.01, 0.1):
        found = on_all_cores(partial(_each_test, Candidate(ttft=1.3), share, 2000), runs)
        tests: tuple[tuple[Test, str, int], ...] = (("ttft_rank", "by rank", 130), ("ttft", "by threshold", 400))
        for test, words, goal in tests:
            parts = [percentile([run.get(test, inf) for run in found], part) for part in (50, 80, 95)]
            section.rows.append([f"{words}, share {share:.0%}", *parts])
            if share == STAGES[0]:
                section.goals.append(Goal(f"{words}, p95 where rollouts begin", parts[2], goal))
    return section


def _late(seed: int) -> tuple[float, float]:
    """Healthy up to 25 %, then errors 1 → 5 %: treated users since, with restarts and without."""
    world = Singles(np.random.default_rng([4, seed]), HEALTHY, 0.01)
    end = play(world, per_look=8, params=LONG, until=0.25)
    if end.status == "rolled_back":
        return inf, inf
    world.becomes(Candidate(errors=odds(0.01, 0.05)), 0.01)
    before, found = world.tally.treated, [inf, inf]
    while max(found) == inf and world.tally.treated < before + LATE_MOST:
        tally = world.look(0.25, 16)
        counters = tally.counters()
        reading = assess(counters, STAGES, tolerated=2).readings[0]
        plain = log_e(counters.first_bad["errors"])
        for index, reached in enumerate((reading.log_e, plain)):
            if found[index] == inf and reached >= reading.threshold:
                found[index] = tally.treated - before
    return found[0], found[1]


def late_harm(runs: int = 500) -> Section:
    """What the restarts are worth."""
    found = list(zip(*on_all_cores(_late, runs), strict=True))
    section = Section(
        "Harm that begins later",
        f"{runs:,} rollouts that are healthy until they come to 25 %; there errors grow from 1 to 5 %.",
        ["treated users from then on", "p50", "p80", "p95"],
    )
    for name, treated in zip(
        ("with a stake on each later stage", "one e-process from the beginning"), found, strict=True
    ):
        parts = [percentile(treated, part) for part in (50, 80, 95)]
        section.rows.append([name, *(part if part < inf else f"over {LATE_MOST:,}" for part in parts)])
    return section


def _boundary(seed: int) -> End:
    return play(Singles(np.random.default_rng([5, seed]), Candidate(errors=2.0), 0.01), per_look=20, until=STAGES[1])


def wrong_promotions(runs: int = 2000) -> Section:
    """How often a candidate just as harmful as is to be ruled out is let past the first stage."""
    ends = on_all_cores(_boundary, runs)
    left = [end for end in ends if end.left]
    capped = sum(end.left[0][1] for end in left)
    section = Section(
        "Wrong promotions",
        f"{runs:,} rollouts of a candidate whose odds of an error are exactly twice the control's (1 %), which is what"
        " has to be ruled out. Promoted: it left the first stage, whatever became of it later.",
        ["of 100 rollouts", ""],
    )
    section.rows += [
        ["promoted, harm wrongly ruled out", 100 * (len(left) - capped) / runs],
        [f"promoted at the cap of {PARAMS.cap:,} treated users, unsuspicious", 100 * capped / runs],
        ["rolled back in the first stage", 100 * sum(not end.left for end in ends) / runs],
    ]
    section.goals.append(Goal("promoted at the boundary", 100 * len(left) / runs, 6, " %"))
    return section


def tick_time() -> Section:
    """What a tick takes beside its queries."""
    world = Singles(np.random.default_rng(6), HEALTHY, 0.01)
    for share in STAGES[:-1]:
        world.look(share, round(1000 / share))
    counters: Counters = world.tally.counters()
    state = State("gate", "r", "stage", 4, 0.5, 0.5, baseline=world.baseline)
    evidence = Evidence(0.5, last_event_at=0.0, counters=counters)
    times: list[float] = []
    for _ in range(300):
        begin = perf_counter()
        tick(state, evidence, PARAMS, 0.0)
        times.append((perf_counter() - begin) * 1e3)
    section = Section(
        "A tick's own part",
        "Six tests over the counters of five stages, in plain Python; the queries come on top.",
        ["milliseconds", "p50", "p99"],
    )
    section.rows.append(["tick", percentile(times, 50), percentile(times, 99)])
    return section


MEASUREMENTS: dict[str, Callable[[], Section]] = {
    "false-alarms": false_alarms,
    "detection": detection,
    "by-rank": by_rank,
    "late": late_harm,
    "promotion": wrong_promotions,
    "tick": tick_time,
}


def sections(names: Iterable[str]) -> Iterable[Section]:
    """Measured one after another."""
    for name in names:
        yield MEASUREMENTS[name]()
