"""Sales letters on bad days: killed, asked for many times at once, over vendors and a disk that fail."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from lib.errors import RenderFailed
from lib.vsl import pipeline
from lib.vsl import studio as rooms
from tests.api.conftest import StartInstance, over
from tests.api.studio import Studio
from tests.api.test_vsl import BRIEF, FRAMES, JSON, VSL, begin, job_of, made, readings, submissions
from tests.conftest import hosted_over
from tests.fakes.elevenlabs import FakeElevenLabs, timed
from tests.fakes.fal import FakeFal
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Gate, Reply, Vendor
from tests.fakes.web import Told, told
from tests.lib.vsl.briefs import LAMP
from tests.lib.vsl.test_script import HONEST, draft, said
from tests.local.supabase.conftest import Project

CRON = {"authorization": "Bearer cron-secret-0123456789"}
KILLS = int(os.environ.get("KILLS", "20"))
KILLS_PER_JOB = 5
"""Fewer than a step may be begun (pipeline.MOST_ATTEMPTS): one that kills every time is given up."""
LONGEST_LIFE_S = 1.5
VENDOR_TAKES_S = 0.1
PAUSE = threading.Event()
UNHEARD = b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(200)
"""Begins as an MP3 does."""


@dataclass
class Theatre:
    """A project and vendors that outlive the instances, which are killed."""

    project: Project
    fal: FakeFal
    voice: FakeElevenLabs
    environ: dict[str, str]
    lost: Counter[str]

    def paid(self) -> Counter[str]:
        """What the vendors were asked for."""
        return Counter(
            picture=sum(asked.method == "POST" for asked in self.fal.asked),
            narration=sum(asked.method == "POST" for asked in self.voice.asked),
        )

    def recorded(self) -> Counter[str]:
        """What of it is kept, or can be asked for again by its id."""
        kept = dict(
            self.project.sql("select kind, count(*) from public.assets where generation_key is not null group by 1")
        )
        noted = self.project.sql(
            "select count(*) from public.asset_generations as g where vendor_request_id is not null and not exists ("
            "select from public.assets as a where a.user_id = g.user_id and a.generation_key = g.key)"
        )
        return Counter(picture=kept.get("image", 0) + noted[0][0], narration=kept.get("audio", 0))

    def bury(self) -> None:
        """After a kill: what was under way at a vendor is lost; as if a minute had gone by, its leases are over."""
        PAUSE.wait(0.05)  # what the dead had sent may still be on its way into the project
        lost = self.paid() - self.recorded()
        died_with = lost - self.lost
        assert died_with["picture"] <= pipeline.AT_ONCE["pictures"]
        assert died_with["narration"] <= pipeline.AT_ONCE["voices"]
        self.lost = lost
        for table in ("vsl_jobs", "asset_generations"):
            self.project.sql(
                f"update public.{table} set lease_until = now() - interval '1 second' where lease_until is not null"  # noqa: S608 - a name of ours
            )

    def done(self, job_id: str) -> int:
        """How many of the job's steps are."""
        return self.project.sql("select count(*) from public.vsl_steps where job_id = %s and status = 'done'", job_id)[
            0
        ][0]

    def status(self, job_id: str) -> str:
        """The job's."""
        return self.project.sql("select status from public.vsl_jobs where id = %s", job_id)[0][0]

    def names(self) -> list[str]:
        """Of all files of films, with their owners and hashes."""
        return [name for (name,) in self.project.sql("select name from storage.objects")]


@pytest.fixture
def theatre(supabase: Project, vendor: Vendor, loop: LoopThread) -> Any:
    """See Theatre."""
    fal, voice = FakeFal(loop), FakeElevenLabs(loop)
    environ = {
        **hosted_over(groq=vendor),
        **over(supabase),
        "FAL_KEY": "key-of-fal-0123456789",
        "FAL_BASE_URL": fal.url,
        "ELEVENLABS_API_KEY": "key-of-elevenlabs-0123456789",
        "ELEVENLABS_BASE_URL": voice.url,
    }
    with ExitStack() as running:
        running.callback(fal.close)
        running.callback(voice.close)
        yield Theatre(supabase, fal, voice, environ, Counter())
    assert (fal.violations, voice.violations) == ([], [])


def asked_for(url: str, body: dict[str, Any]) -> str:
    """A new job's id."""
    answer = httpx.post(f"{url}{VSL}", json=body, headers=JSON, timeout=30)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def work(url: str) -> None:
    """What the cron has the worker do; who is killed meanwhile does not answer."""
    try:
        httpx.get(f"{url}{VSL}/worker", headers=CRON, timeout=60)
    except httpx.TransportError:
        return


def worded(number: int) -> dict[str, Any]:
    """A brief of its own: other pictures, other sentences."""
    frames = [
        {**frame, "narration": f"{frame['narration']} Night {number}.", "image_prompt": f"{frame['alt']} {number}"}
        for frame in FRAMES
    ]
    return {**BRIEF, "script": {"title": "Lumen", "frames": frames}, "budget_usd": None}


def test_fault_43_letter_killed_after_each_step(theatre: Theatre, start_instance: StartInstance) -> None:
    """Killed after each of its steps in turn, a letter is finished; every picture and sentence is paid for once."""
    instance = start_instance(theatre.environ)
    job_id, reached = asked_for(instance.url, BRIEF), 0
    killed = 0
    while True:
        until = time.monotonic() + 60
        while (now := theatre.done(job_id)) <= reached and theatre.status(job_id) != "succeeded":
            assert time.monotonic() < until
            PAUSE.wait(0.002)
        if theatre.status(job_id) == "succeeded":
            break
        reached = now
        instance.kill()
        killed += 1
        theatre.bury()
        instance = start_instance(theatre.environ)
        threading.Thread(target=work, args=(instance.url,), daemon=True).start()
    assert killed >= 4
    assert theatre.paid() == Counter(picture=2, narration=2) + theatre.lost
    assert theatre.recorded() == Counter(picture=2, narration=2)
    names = theatre.names()
    assert len(names) == len(set(names))
    film = httpx.get(f"{instance.url}{VSL}/{job_id}/video", headers=JSON, follow_redirects=True)
    with av.open(BytesIO(film.content), "r") as container:
        assert sum(1 for _ in container.decode(video=0)) > 20


def test_fault_43_script_killed_between_its_calls(
    theatre: Theatre, start_instance: StartInstance, vendor: Vendor
) -> None:
    """A script of two calls, killed in the second: the first is not asked again, and each is on the bill once."""
    gate = Gate()
    lying = draft(proof="Loved by 9,000 campers. It weighs 310 grams.")
    again = said({"narrations": [HONEST["proof"]]})
    vendor.script(said(lying), Reply([gate]), again)
    body = {**LAMP, "duration_s": 45, "frames": len(HONEST), "stop_after": "script"}
    instance = start_instance(theatre.environ)
    job_id = asked_for(instance.url, body)
    until = time.monotonic() + 30
    while len(vendor.requests) < 2:
        assert time.monotonic() < until
        PAUSE.wait(0.01)
    instance.kill()
    gate.open()
    theatre.bury()
    instance = start_instance(theatre.environ)
    work(instance.url)
    job = job_of_any(instance.url, job_id)
    assert job["status"] == "succeeded"
    assert [frame["narration"] for frame in job["result"]["script"]["frames"]] == list(HONEST.values())
    asked = [request.body["messages"] for request in vendor.requests]
    assert (len(asked), asked[1] == asked[2], asked[0] == asked[1]) == (3, True, False)
    assert theatre.project.sql("select answers from public.vsl_steps") == [({},)]
    vendor.script(said(lying), again)
    whole = job_of_any(instance.url, asked_for(instance.url, {**body, "seed": 2}))
    assert job["cost_usd"] == whole["cost_usd"] > 0


@pytest.mark.slow
def test_fault_43_letter_killed_at_random(theatre: Theatre, start_instance: StartInstance) -> None:
    """Killed at random moments (`make test-vsl-kills`: 200), every letter is finished, nothing kept is paid again."""
    chance = random.Random(20261123)  # noqa: S311 - no secret
    theatre.fal.takes_s = theatre.voice.takes_s = VENDOR_TAKES_S
    kills = jobs = 0
    while kills < KILLS:
        instance = start_instance(theatre.environ)
        job_id = asked_for(instance.url, worded(jobs))
        for _ in range(min(KILLS_PER_JOB, KILLS - kills)):
            PAUSE.wait(chance.uniform(0, LONGEST_LIFE_S))
            if theatre.status(job_id) == "succeeded":
                break
            instance.kill()
            kills += 1
            theatre.bury()
            instance = start_instance(theatre.environ)
            threading.Thread(target=work, args=(instance.url,), daemon=True).start()
        assert job_of_any(instance.url, job_id)["status"] == "succeeded"
        jobs += 1
        instance.kill()
    assert theatre.recorded() == Counter(picture=2 * jobs, narration=2 * jobs)
    assert theatre.paid() == theatre.recorded() + theatre.lost
    names = theatre.names()
    assert len(names) == len(set(names))
    print(f"\n{kills} kills, {jobs} letters, paid {dict(theatre.paid())}, caught in mid-call {dict(theatre.lost)}")  # noqa: T201 - for who runs it


def job_of_any(url: str, job_id: str) -> dict[str, Any]:
    """The job once it is over."""
    until = time.monotonic() + 90
    while True:
        job = httpx.get(f"{url}{VSL}/{job_id}", headers=JSON, timeout=30).json()
        if job["status"] in {"succeeded", "failed", "canceled"}:
            return job
        assert time.monotonic() < until, job
        PAUSE.wait(0.2)


def test_fault_43_abandoned_letter(theatre: Theatre, start_instance: StartInstance) -> None:
    """Left behind by an instance that died, with nobody listening, a letter is finished by the cron's call."""
    instance = start_instance(theatre.environ)
    job_id = asked_for(instance.url, BRIEF)
    instance.kill()
    theatre.bury()
    worker = start_instance(theatre.environ)
    upkeep = start_instance({**theatre.environ, "SITE_URL": worker.url})
    report = httpx.get(f"{upkeep.url}/api/health?run=1", headers=CRON, timeout=60).json()
    assert report["tasks"]["sales letters"] == {"ok": True, "report": 200}
    assert theatre.status(job_id) == "succeeded"
    assert theatre.recorded() == Counter(picture=2, narration=2)


def test_fault_43_letter_whose_worker_is_not_there(theatre: Theatre, start_instance: StartInstance) -> None:
    """A worker that can't be called is a task that failed; the others are done all the same."""
    upkeep = start_instance({**theatre.environ, "SITE_URL": theatre.fal.url})
    theatre.fal.script(Told(401))
    report = httpx.get(f"{upkeep.url}/api/health?run=1", headers=CRON, timeout=60).json()
    assert report["outcome"] == "error"
    assert [name for name, task in report["tasks"].items() if not task["ok"]] == ["sales letters"]
    assert theatre.fal.asked[0].headers["authorization"] == CRON["authorization"]


def test_fault_43_fifty_equal_letters(studio: Studio) -> None:
    """Fifty equal requests at once are one job; nothing is paid twice."""
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(begin, [studio] * 50))
    (id_,) = {answer.json()["id"] for answer in answers}
    assert job_of(studio, id_)["status"] == "succeeded"
    assert studio.project.sql("select count(*) from public.vsl_jobs") == [(1,)]
    assert (len(submissions(studio.fal)), len(readings(studio))) == (2, 2)


def test_fault_42_voice_is_down_for_one_frame(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A voice that fails in passing costs its own sentence another try, and the other frame nothing."""
    monkeypatch.setattr(pipeline, "FIRST_PAUSE_S", 0.0)
    studio.voice.script(Told(503), Told(503))
    job = made(studio)
    assert job["status"] == "succeeded"
    assert (len(submissions(studio.fal)), set(readings(studio))) == (2, {"Dark nights.", "Lumen shines."})
    assert len(readings(studio)) == 4


def test_fault_42_picture_is_down_for_one_frame(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that can't be had is a card, said so; the other is drawn once, and nothing else is done again."""
    monkeypatch.setattr(pipeline, "FIRST_PAUSE_S", 0.0)
    refused = told({"detail": [{"msg": "no", "type": "content_policy_violation"}]}, 422)
    studio.fal.faults = [("submit", refused)]
    job = made(studio)
    assert (job["status"], job["degraded"]) == ("succeeded", True)
    assert sorted(frame["picture"].get("degraded", False) for frame in job["frames"]) == [False, True]
    assert (len(submissions(studio.fal)), len(readings(studio))) == (2, 2)


def lasting(seconds: float) -> bytes:
    """A tone of this length, as MP3."""
    import numpy as np  # noqa: PLC0415

    from local.audio import Encoder  # noqa: PLC0415

    tone = 0.3 * np.sin(np.arange(round(22_050 * seconds)) * 2 * np.pi * 440 / 22_050)
    return Encoder("mp3_44100_128", 22_050).feed(tone.astype(np.float32), last=True)


# A picture is no flash: one whose words are soon said stays for a second. Between two lies 0.3 s, after the last 0.6.
@pytest.mark.parametrize(("seconds", "lasts_s"), [(0.2, 2.0), (4.0, 8.9)], ids=["shorter", "longer"])
def test_fault_44_narration_of_another_length(studio: Studio, seconds: float, lasts_s: float) -> None:
    """A reading that lasts shorter or longer than planned: pictures and captions follow what is heard."""
    studio.voice.script(*(told(timed(text, lasting(seconds))) for text in ("Dark nights.", "Lumen shines.")))
    job = made(studio)
    assert job["status"] == "succeeded"
    film = httpx.get(f"{studio.url}{VSL}/{job['id']}/video", headers=JSON, follow_redirects=True)
    with av.open(BytesIO(film.content), "r") as container:
        shown = sum(1 for _ in container.decode(video=0)) / 25
    assert shown == pytest.approx(lasts_s, abs=0.2)
    assert abs(shown - job["result"]["duration_s"]) <= 1 / 25
    srt = httpx.get(job["result"]["files"]["captions_srt"]["url"]).text
    ends = [line.split(" --> ")[1] for line in srt.splitlines() if " --> " in line]
    hours, minutes, rest = ends[-1].replace(",", ".").split(":")
    assert int(hours) * 3600 + int(minutes) * 60 + float(rest) <= shown + 1 / 25


@pytest.mark.parametrize(
    "sound",
    [b"", b"<html>sorry</html>", UNHEARD],
    ids=["empty", "html", "no sound in it"],
)
def test_fault_44_narration_that_is_none(studio: Studio, sound: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no sound is asked for once more; where that is none either, the job says which frame, and has no film."""
    monkeypatch.setattr(pipeline, "LONGEST_PAUSE_S", 0.0)
    studio.voice.script(told(timed("Dark nights.", sound)))
    assert made(studio)["status"] == "succeeded"
    count = len(readings(studio))
    assert count == 3
    studio.voice.script(*[told(timed("x", sound))] * 40)
    job = made(studio, worded(1))
    assert (job["status"], job["error"]["stage"]) == ("failed", "narration")
    assert job["error"]["frame"] in {0, 1}
    assert "result" not in job


def test_fault_44_what_cannot_be_heard_is_not_kept(studio: Studio) -> None:
    """A reading without a sound in it, found again by /retry, is read anew: it is no result for ever."""
    studio.voice.script(*[told(timed("x", UNHEARD))] * 4)
    job = made(studio)
    assert (job["status"], job["error"]["stage"]) == ("failed", "narration")
    studio.voice.forget()
    assert httpx.post(f"{studio.url}{VSL}/{job['id']}/retry", headers=JSON).status_code == 202
    assert job_of(studio, job["id"])["status"] == "succeeded"


@pytest.mark.parametrize("trouble", ["missing", "killed", "disk_full"])
def test_fault_45_letter_without_ffmpeg(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trouble: str
) -> None:
    """With ffmpeg missing or killed, or a full disk, the job says so, keeps what was paid, and ends after /retry."""
    monkeypatch.setattr(pipeline, "FIRST_PAUSE_S", 0.0)
    real = rooms.find()
    monkeypatch.setattr(rooms, "find", lambda: broken(tmp_path, trouble))
    job = made(studio)
    assert (job["status"], job["error"]["code"], job["error"]["stage"]) == ("failed", "render_failed", "narration")
    monkeypatch.setattr(rooms, "find", lambda: real)
    assert httpx.post(f"{studio.url}{VSL}/{job['id']}/retry", headers=JSON).status_code == 202
    assert job_of(studio, job["id"])["status"] == "succeeded"
    assert (len(submissions(studio.fal)), len(readings(studio))) == (2, 2)


def broken(folder: Path, trouble: str) -> Path:
    """An ffmpeg that is in this trouble. Raises RenderFailed where there is none."""
    if trouble == "missing":
        raise RenderFailed("No ffmpeg", stage="render", reason="ffmpeg_missing")
    path = folder / "ffmpeg"
    # 228 is ENOSPC as ffmpeg ends with it.
    path.write_text("#!/bin/sh\nkill -9 $$\n" if trouble == "killed" else "#!/bin/sh\nexit 228\n")
    path.chmod(0o755)
    return path
