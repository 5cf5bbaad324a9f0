"""What an experiment's report says about arms whose truth is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import orjson
import pytest

from lib.control.experiments import Design, Unit, report
from lib.control.statistics import bucket, histogram_quantile, merged

DESIGN = Design(control="groq", shares={"groq": 40, "deepinfra": 30, "xai": 30}, slow_ms=2000)


def seeded(seed: int) -> Random:
    """Chance that can be had again."""
    return Random(seed)  # noqa: S311 - a simulation


def user(rng: Random, arm: str, *, fails: float = 0.02, slower: float = 1.0, price: int = 100) -> Unit:
    """Somebody who asks a few times, of an arm as good as this."""
    requests = rng.randint(1, 5)
    failed = sum(rng.random() < fails for _ in range(requests))
    times = [rng.lognormvariate(6.5, 0.5) * slower for _ in range(requests - failed)]
    latency = sorted(Counter(map(bucket, times)).items())
    return Unit(
        user_id=f"{arm}-{rng.random()}",
        arm=arm,
        requests=requests,
        failed=failed,
        failed_calls=failed,
        latency_ms=sum(times),
        latency=latency,
        ttft=sorted(Counter(bucket(time / 4) for time in times).items()),
        cost_microusd=price * requests,
        output_tokens=200 * requests,
        served={arm: requests - failed},
    )


def users(numbers: dict[str, int], **arms: dict[str, Any]) -> list[Unit]:
    """So many users of each arm, as `user` makes them."""
    rng = seeded(4)
    return [user(rng, arm, **arms.get(arm, {})) for arm, number in numbers.items() for _ in range(number)]


def difference(told: dict[str, Any], arm: str, measure: str) -> dict[str, Any]:
    """One of the differences."""
    return next(each for each in told["differences"] if (each["arm"], each["measure"]) == (arm, measure))


def verdicts(told: dict[str, Any]) -> dict[str, str]:
    """Status by arm."""
    return {each["arm"]: each["status"] for each in told["verdicts"]}


def test_equal_arms_are_not_told_apart() -> None:
    """Nothing is found, all figures are there, and the whole is JSON."""
    told = report(users({"groq": 400, "deepinfra": 300, "xai": 300}), DESIGN, seeded(1))
    assert verdicts(told) == {"deepinfra": "keep looking", "xai": "keep looking"}
    assert told["verdicts"][0]["words"].startswith("Keep looking: nothing yet tells deepinfra from groq")
    assert told["sample_ratio"] == {"p_value": 1.0, "ok": True}
    assert [(arm["arm"], arm["users"]) for arm in told["arms"]] == [("groq", 400), ("deepinfra", 300), ("xai", 300)]
    assert {each["measure"] for each in told["differences"] if each["arm"] == "xai"} == {
        *("error_rate", "failed_calls_per_request", "latency_mean_ms"),
        *("cost_per_1k_requests_usd", "cost_per_1k_output_tokens_usd"),
        *("latency_p50_ms", "latency_p95_ms", "ttft_p50_ms", "ttft_p95_ms"),
    }
    assert orjson.loads(orjson.dumps(told)) == told


def test_arms_are_added_up() -> None:
    """Sums, ratios and quantiles are those of all the users of the arm."""
    units = users({"groq": 50, "deepinfra": 40, "xai": 40}, xai={"price": 300})
    arm = report(units, DESIGN, seeded(1))["arms"][2]
    mine = [unit for unit in units if unit.arm == "xai"]
    requests, failed = sum(unit.requests for unit in mine), sum(unit.failed for unit in mine)
    assert (arm["requests"], arm["failed"], arm["served"]) == (requests, failed, {"xai": requests - failed})
    assert arm["error_rate"]["value"] == failed / requests
    assert arm["cost_per_1k_requests_usd"]["value"] == pytest.approx(0.3)
    assert arm["cost_per_1k_output_tokens_usd"]["value"] == pytest.approx(0.0015)
    assert arm["latency_mean_ms"]["value"] == pytest.approx(sum(unit.latency_ms for unit in mine) / (requests - failed))
    assert arm["latency_ms"]["p95"] == histogram_quantile(
        merged({pair[0]: pair[1] for pair in unit.latency} for unit in mine), 0.95
    )
    assert arm["approval"] is None


def test_worse_arm_is_found() -> None:
    """It fails more: the interval says so, and so does the verdict, of that arm alone."""
    told = report(users({"groq": 400, "deepinfra": 300, "xai": 300}, xai={"fails": 0.2}), DESIGN, seeded(1))
    apart = difference(told, "xai", "error_rate")
    assert 0.1 < apart["low"] < apart["value"] < apart["high"] < 0.25
    assert apart["clear"] == "worse"
    assert verdicts(told) == {"deepinfra": "keep looking", "xai": "worse"}
    assert told["verdicts"][1]["words"] == "xai is worse on errors and failed calls than groq; you may stop looking."


def test_faster_and_cheaper_arm_is_found() -> None:
    """Better on slowness; what it costs is far apart too, and cheaper is better."""
    numbers = {"groq": 800, "deepinfra": 600, "xai": 600}
    told = report(users(numbers, deepinfra={"slower": 0.5, "price": 50}), DESIGN, seeded(1))
    assert verdicts(told)["deepinfra"] == "better"
    assert told["verdicts"][0]["words"] == "deepinfra is better on slowness than groq; you may stop looking."
    for measure in ("latency_p50_ms", "latency_p95_ms", "ttft_p95_ms", "latency_mean_ms", "cost_per_1k_requests_usd"):
        assert difference(told, "deepinfra", measure)["clear"] == "better", measure


def test_mixed_arm_is_called_mixed() -> None:
    """Faster, and failing more often."""
    numbers = {"groq": 800, "deepinfra": 600, "xai": 600}
    told = report(users(numbers, xai={"slower": 0.4, "fails": 0.15}), DESIGN, seeded(1))
    assert verdicts(told)["xai"] == "mixed"
    assert told["verdicts"][1]["words"].startswith(
        "xai is worse on errors and failed calls, but better on slowness than"
    )


def test_fallback_does_not_hide_a_failing_arm() -> None:
    """All its users were answered, by somebody else: no errors, yet the verdict tells, and who served is shown."""
    rescued = [
        replace(unit, failed=0, failed_calls=unit.requests, served={"groq": unit.requests})
        if unit.arm == "xai"
        else unit
        for unit in users({"groq": 100, "deepinfra": 75, "xai": 75}, xai={"fails": 0.0})
    ]
    told = report(rescued, DESIGN, seeded(1))
    assert told["arms"][2]["served"].keys() == {"groq"}
    assert told["arms"][2]["error_rate"]["value"] == 0
    assert told["verdicts"][1]["words"] == "xai is worse on failed calls than groq; you may stop looking."


def test_broken_assignment_has_no_verdict() -> None:
    """Where users are spread as they should not be, no figure is trusted, not even a clear one."""
    told = report(users({"groq": 400, "deepinfra": 300, "xai": 150}, xai={"fails": 0.5}), DESIGN, seeded(1))
    assert not told["sample_ratio"]["ok"]
    assert verdicts(told) == {"deepinfra": "broken", "xai": "broken"}


def test_thumbs() -> None:
    """Approval is a proportion of those who said something; dislikes count once per user."""
    units = [
        replace(unit, thumbs_up=int(unit.arm == "groq"), thumbs_down=3 * (unit.arm == "xai"))
        for unit in users({"groq": 40, "deepinfra": 30, "xai": 30})
    ]
    told = report(units, DESIGN, seeded(1))
    assert [arm["approval"] and arm["approval"]["value"] for arm in told["arms"]] == [1, None, 0]
    assert difference(told, "xai", "approval")["clear"] == "worse"
    dislikes = next(each for each in told["verdicts"][1]["evidence"] if each["signal"] == "dislikes")
    assert (dislikes["treated"], dislikes["control"]) == (30, 0)
    assert told["verdicts"][1]["words"] == "xai is worse on dislikes than groq; you may stop looking."


@pytest.mark.parametrize("units", [[], [Unit("a", "groq", 1, latency=[[100, 1]])], [Unit("a", "xai", 0)]])
def test_hardly_anything(units: Sequence[Unit]) -> None:
    """Nobody, one user, one who got no answer: a report with gaps, JSON, and no verdict."""
    told = report(units, DESIGN, seeded(1))
    assert set(verdicts(told).values()) == {"keep looking"}
    assert told["differences"] == []
    assert b"NaN" not in orjson.dumps(told)
    assert orjson.loads(orjson.dumps(told)) == told


def test_strangers_are_counted_apart() -> None:
    """Users of an arm that the design does not know."""
    told = report([*users({"groq": 4, "deepinfra": 3, "xai": 3}), Unit("z", "openai", 5)], DESIGN, seeded(1))
    assert told["strangers"] == 1
    assert sum(arm["users"] for arm in told["arms"]) == 10


def test_slowness_needs_a_border() -> None:
    """Without one fixed beforehand there is no such signal, and fewer share the threshold."""
    without = report(users({"groq": 4, "deepinfra": 3, "xai": 3}), replace(DESIGN, slow_ms=None), seeded(1))
    evidence = without["verdicts"][0]["evidence"]
    assert [each["signal"] for each in evidence] == ["errors", "failed calls", "dislikes"]
    # Two arms, three signals, two directions share 5 %.
    assert evidence[0]["threshold"] == pytest.approx(5.480639)
