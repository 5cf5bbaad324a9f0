"""What a letter will cost, stage by stage."""

from __future__ import annotations

from typing import Any

import pytest

from lib.providers.catalog import ROWS
from lib.router.plan import Candidate
from lib.vsl.price import Route, estimate, work_of, worst_script_microusd
from tests.lib.vsl.briefs import job_request

GROQ = Route("groq", "openai/gpt-oss-20b")
FLUX = Route("fal", "fal-ai/flux/schnell")
VOICE = Route("elevenlabs", "eleven_flash_v2_5")
LOCAL = Route("local", "smollm2-135m-instruct"), Route("local", "local/drawing"), Route("local", "piper-joe-medium")


def price(**fields: Any) -> dict[str, Any]:
    """By hosted vendors."""
    return estimate(job_request(**fields), text=GROQ, picture=FLUX, voice=VOICE)


def test_stages() -> None:
    """Six pictures of one megapixel begun, a minute of characters, some thousand tokens."""
    found = price()
    frames, narration, script = (found["stages"][name] for name in ("frames", "narration", "script"))
    assert (frames["images"], frames["usd"]) == (6, pytest.approx(0.018))
    assert 700 < narration["characters"] < 1_000
    assert narration["usd"] == pytest.approx(0.05 * narration["characters"] / 1000)
    assert 0 < script["usd"] < 0.001
    assert found["total_usd"] == pytest.approx(script["usd"] + frames["usd"] + narration["usd"], abs=1e-6)
    assert found["unknown"] == []


def test_longer_costs_more() -> None:
    """Twice the time is about twice the characters."""
    assert price(duration_s=90)["total_usd"] < price(duration_s=180, frames=6)["total_usd"]
    assert work_of(job_request(duration_s=600)).characters == pytest.approx(
        10 * work_of(job_request(duration_s=60)).characters, rel=0.01
    )


def test_own_script() -> None:
    """A script of one's own is counted, not guessed, and asks no model; own media cost nothing."""
    picture = "https://pictures.example/a.png"
    frames = [
        {"narration": "Twenty characters ok", "image": picture},
        {"narration": "Hello", "narration_audio": picture},
    ]
    found = price(script={"frames": frames})
    assert set(found["stages"]) == {"frames", "narration"}
    assert (found["stages"]["frames"]["images"], found["stages"]["narration"]["characters"]) == (1, 20)


def test_script_alone() -> None:
    """Who stops after the script pays no more than that."""
    assert set(price(stop_after="script")["stages"]) == {"script"}


def test_embedded_is_free() -> None:
    """The engines on this machine cost nothing, which is known."""
    text, picture, voice = LOCAL
    found = estimate(job_request(), text=text, picture=picture, voice=voice)
    assert (found["total_usd"], found["unknown"]) == (0, [])


def test_unknown_is_not_nothing() -> None:
    """A price that nobody knows is null, and named."""
    found = estimate(job_request(), text=GROQ, picture=Route("fal", "new/model"), voice=VOICE)
    assert found["stages"]["frames"]["usd"] is None
    assert found["unknown"] == ["frames"]


def test_worst_case_is_above_the_estimate() -> None:
    """What is held before the script is written is more than it should cost."""
    row = next(row for row in ROWS if row.name == "groq")
    candidates = [Candidate("groq", row.models[0])]
    assert worst_script_microusd(job_request(), candidates) > price()["stages"]["script"]["usd"] * 1_000_000 * 2
    assert worst_script_microusd(job_request(script="Own words."), candidates) == 0
