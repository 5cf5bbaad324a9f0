"""A rollout's state in plain words, and its evidence as a table: for the page, the issue and the operator. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import exp
from typing import Any

from lib.control.guardrails import GUARDRAILS, SAFE_THRESHOLD, WORDS, Assessment, assess
from lib.control.rollout import Evidence, Params, Reason, State, Status, treated_in_stage

LARGEST = 700.0
"""e to this is a float, and nobody needs a larger one."""


def explain(state: State, evidence: Evidence, params: Params, now: float) -> str:
    """Why the rollout is where it is: one sentence."""
    words: Mapping[Status, Callable[[], str]] = {
        "idle": lambda: "Not started.",
        "baseline": lambda: f"Measuring the control until {params.baseline_requests} of its requests are known.",
        "stage": lambda: _stage(state, evidence, params, now),
        "hold": lambda: f"At {percent(state.share)}, on hold: {_hold(state, evidence, params)}.",
        "paused": lambda: _paused(state),
        "rolled_back": lambda: _rolled_back(state, _assessed(evidence, params)),
        "done": lambda: "Done: everybody gets the candidate.",
    }
    return words[state.status]()


def table(evidence: Evidence, params: Params) -> list[dict[str, Any]]:
    """Each test as JSON: `test, words, e, threshold, log_e, log_threshold, breached, treated, control, safe`.

    `treated, control`: how many users had a bad event, by arm; null for the tests by rank. `safe`: how much of
    the evidence that rules out harm of the tolerated size is there, from 0 to 1; null likewise.
    """
    assessment = _assessed(evidence, params)
    rows: list[dict[str, Any]] = []
    for reading in assessment.readings:
        splits = evidence.counters.first_bad.get(reading.test, ()) if reading.test in GUARDRAILS else None
        safe = assessment.safe.get(reading.test) if reading.test in GUARDRAILS else None
        rows.append(
            {
                "test": reading.test,
                "words": WORDS[reading.test],
                "e": exp(min(reading.log_e, LARGEST)),
                "threshold": exp(reading.threshold),
                "log_e": reading.log_e,
                "log_threshold": reading.threshold,
                "breached": reading.breached,
                "treated": None if splits is None else sum(split.treated for split in splits),
                "control": None if splits is None else sum(split.control for split in splits),
                "safe": None if safe is None else min(1.0, max(0.0, safe / SAFE_THRESHOLD)),
            }
        )
    return rows


def percent(share: float) -> str:
    """As people write it: 1 %, 2.5 %."""
    return f"{round(share * 100, 4):g} %"


def _assessed(evidence: Evidence, params: Params) -> Assessment:
    return assess(evidence.counters, params.stages, tolerated=params.tolerated)


def _paused(state: State) -> str:
    if state.reason == "set_by_hand":
        return f"Paused: somebody set the gate to {percent(state.share)} by hand."
    return f"Paused at {percent(state.share)} by an operator; guardrails still roll back."


def _rolled_back(state: State, assessment: Assessment) -> str:
    if state.reason == "by_operator":
        return "Rolled back by an operator."
    proven = _all(WORDS[reading.test] for reading in assessment.breaches)
    return f"Rolled back: the candidate is provably worse{f' on {proven}' if proven else ''}."


def _hold(state: State, evidence: Evidence, params: Params) -> str:
    treated = treated_in_stage(state, evidence.counters)
    words: Mapping[Reason | None, str] = {
        "store_unreachable": "the flag store can't be read",
        "store_behind": "the flag store has not taken the new share yet",
        "credentials_rejected": "the candidate's vendor rejects our credentials",
        "hourly_cap": f"the candidate spent {evidence.spent_usd:.2f} USD in an hour, and the cap is no more",
        "stale": "no events have come in for some minutes, so nothing is known",
        "ratio": "users are spread over the arms other than by the share; find out why, then restart",
        "fewest": f"waiting for users, {treated} of {params.fewest} in this stage",
    }
    return words[state.reason]


def _stage(state: State, evidence: Evidence, params: Params, now: float) -> str:
    assessment = _assessed(evidence, params)
    if assessment.suspicious:
        named = _all(WORDS[reading.test] for reading in assessment.suspicious)
        rest = f"{named} may be worse, which is neither proven nor ruled out; keeps looking"
    elif (left := params.dwell_s - (now - state.since)) > 0:
        rest = f"nothing looks worse; goes on in {max(1, round(left / 60))} minutes at the earliest"
    elif state.share < 1 and assessment.unproven:
        named = _all(WORDS[guardrail] for guardrail in assessment.unproven)
        treated = treated_in_stage(state, evidence.counters)
        rest = (
            f"not yet ruled out that {named} became {params.tolerated:g} times as likely;"
            f" {treated} users so far, goes on with {params.cap} at the latest"
        )
    else:
        rest = "goes on with the next tick"
    return f"At {percent(state.share)}: {rest}."


def _all(words: Iterable[str]) -> str:
    *before, last = [*words] or [""]
    return f"{', '.join(before)} and {last}" if before else last
