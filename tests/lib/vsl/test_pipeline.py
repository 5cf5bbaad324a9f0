"""Jobs on real rows: whatever dies when, each step is done once, and the job ends as it would have."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from lib.errors import DataFailed
from lib.ids import uuid7
from lib.vsl import pipeline
from lib.vsl.jobs import Job, Jobs, Json, StillRunning
from lib.vsl.pipeline import Made, Pipeline, Progress, Step, StepFailed, Works
from tests.database import Database
from tests.lib.vsl.rows import Direct

FRAMES = 3
COST = 100
STEPS = 2 + 2 * FRAMES
LONG = 60.0


def key(*parts: object) -> str:
    """A content key."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def plan(job: Job, results: Mapping[str, Json]) -> list[Step]:
    """A script, then a picture and a reading per frame, then the film."""
    steps = [Step("script", "script", "text", key("script", sorted(job.request.items())), worst_microusd=COST)]
    if "script" not in results:
        return steps
    words: list[str] = results["script"]["frames"]
    for number, word in enumerate(words):
        steps.append(Step(f"picture/{number}", "frames", "pictures", key("picture", word), number, COST))
        steps.append(Step(f"narration/{number}", "narration", "voices", key("narration", word), number, COST))
    if all(f"{kind}/{number}" in results for number in range(len(words)) for kind in ("picture", "narration")):
        steps.append(Step("film", "render", "film", key("film", words), seconds=20))
    return steps


def measure(job: Job, results: Mapping[str, Json]) -> Progress:
    """By the number of steps."""
    del job
    return Progress("frames", 100 * len(results) // STEPS)


def finish(job: Job, results: Mapping[str, Json]) -> Json:
    """All that was made."""
    return {"title": job.request["product"], "of": sorted(results)}


class Hands:
    """Does steps and counts; `trouble` may raise, wait or kill instead."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.at_once: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.trouble: Callable[[Step], Awaitable[None]] | None = None

    async def do(self, job: Job, step: Step, results: Mapping[str, Json]) -> Made:
        """See Do."""
        del results
        self.began.append(step.name)
        self.at_once[step.pool] += 1
        self.most[step.pool] = max(self.most[step.pool], self.at_once[step.pool])
        try:
            await asyncio.sleep(0)
            if self.trouble is not None:
                await self.trouble(step)
        finally:
            self.at_once[step.pool] -= 1
        self.ended.append(step.name)
        words = job.request.get("words") or [f"{job.request['product']} {number}" for number in range(FRAMES)]
        result: Json = {"frames": words} if step.name == "script" else {"made": step.content_key[:8]}
        return Made(result, COST, "fake", "model")

    async def instead(self, job: Job, step: Step, results: Mapping[str, Json], error: StepFailed) -> Made | None:
        """See Instead: a picture that is refused has a stand-in, unless the job is strict."""
        assert "script" in results
        refused = step.pool == "pictures" and error.code == "content_blocked" and not job.request.get("strict")
        return Made({"made": "a card", "degraded": True}) if refused else None


class Scene:
    """A database, an owner, and processes that drive."""

    def __init__(self, database: Database) -> None:
        self.rows = Direct(database)
        self.jobs = Jobs(self.rows)
        self.owner = self.rows.user()
        self.hands = Hands()

    def pipeline(self) -> Pipeline:
        """Another process."""
        works = Works(plan, self.hands.do, self.hands.instead, measure, finish)
        return Pipeline(self.jobs, self.rows, works)

    async def job(
        self, product: str = "lamp", *, budget: int | None = None, webhook: str | None = None, **request: object
    ) -> Job:
        """A new job, or the one there is."""
        asked = {"product": product, **request}
        job, _ = await self.jobs.create(
            uuid7(),
            owner_id=self.owner,
            caller_kind="user",
            request=asked,
            request_hash=key(asked),
            budget_microusd=budget,
            webhook_url=webhook,
        )
        return job

    async def read(self, job: Job) -> Job:
        """As it is now."""
        found = await self.jobs.find(self.owner, job.id)
        assert found is not None
        return found

    async def drive(self, job: Job | None = None, *, within_s: float = LONG) -> str | None:
        """One process, until it has nothing to do."""
        ends_at = asyncio.get_running_loop().time() + within_s
        return await self.pipeline().advance(ends_at, None if job is None else job.id)


@pytest.fixture
def scene(database: Database) -> Iterator[Scene]:
    """See Scene."""
    made = Scene(database)
    yield made
    made.rows.close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries wait for nothing."""
    monkeypatch.setattr(pipeline, "FIRST_PAUSE_S", 0.0)


def test_a_whole_job(scene: Scene) -> None:
    """Every step once, side by side within its pool's bounds; the result, the cost and the steps are on record."""

    async def take_a_while(_: Step) -> None:
        await asyncio.sleep(0.1)

    async def go() -> Job:
        scene.hands.trouble = take_a_while
        job = await scene.job()
        assert (job.status, job.percent, await scene.drive(job)) == ("queued", 0, job.id)
        assert await scene.drive(job) is None
        return await scene.read(job)

    job = asyncio.run(go())
    assert (job.status, job.stage, job.percent, job.cost_microusd) == ("succeeded", "done", 100, STEPS * COST)
    assert job.result is not None
    assert len(job.result["of"]) == STEPS
    assert Counter(scene.hands.ended) == Counter(list(job.steps))
    assert (scene.hands.ended[0], scene.hands.ended[-1]) == ("script", "film")
    assert scene.hands.most == {"text": 1, "pictures": 3, "voices": 2, "film": 1}
    assert {step.status for step in job.steps.values()} == {"done"}
    assert {(step.provider, step.cost_microusd, step.cached) for step in job.steps.values()} == {("fake", COST, False)}


@pytest.mark.parametrize("fatal", range(STEPS))
def test_fault_43_job_killed_at_each_step(scene: Scene, fatal: int) -> None:
    """Killed in each step of a job, whoever goes on does only what was not kept; it ends as if nothing had been."""
    dead: list[bool] = []

    async def die(_: Step) -> None:
        if len(scene.hands.ended) == fatal and not dead:
            dead.append(True)
            for task in asyncio.all_tasks():
                if task.get_name() == "process":
                    task.cancel()
            await asyncio.sleep(LONG)

    async def go() -> tuple[set[str], Job]:
        job = await scene.job()
        scene.hands.trouble = die
        process = asyncio.create_task(scene.drive(job), name="process")
        await asyncio.wait([process])
        assert process.cancelled()
        assert await scene.drive(job) is None, "the lease still holds"
        kept = {name for name, step in (await scene.read(job)).steps.items() if step.status == "done"}
        scene.hands.began.clear()
        scene.rows.forget_leases()
        await scene.drive()
        return kept, await scene.read(job)

    kept, job = asyncio.run(go())
    assert (job.status, job.cost_microusd) == ("succeeded", STEPS * COST)
    assert Counter(scene.hands.began) == Counter(set(job.steps) - kept)
    # Only what ended in the very moment of the death may be lost.
    assert len(kept) >= fatal - sum(pipeline.AT_ONCE[pool] for pool in ("pictures", "voices"))


def test_two_processes_never_drive_the_same(scene: Scene) -> None:
    """However many try at once, for it or for any that is due: each step is done once."""

    async def go() -> list[str | None]:
        job = await scene.job()
        return await asyncio.gather(*(scene.drive(job if number % 2 else None) for number in range(10)))

    drivers = asyncio.run(go())
    assert len([driver for driver in drivers if driver]) == 1
    assert max(Counter(scene.hands.ended).values()) == 1


def test_fault_43_equal_requests_are_one_job(scene: Scene) -> None:
    """Of fifty equal requests at once, and one when it is done, all get the same job."""

    async def go() -> set[str]:
        jobs = await asyncio.gather(*(scene.job() for _ in range(50)))
        await scene.drive()
        return {job.id for job in (*jobs, await scene.job())}

    assert len(asyncio.run(go())) == 1


def test_a_changed_part_alone_is_made_again(scene: Scene) -> None:
    """Another job of the same parts pays for what is new in it."""

    async def go() -> Job:
        await scene.drive(await scene.job(words=["a", "b", "c"]))
        scene.hands.ended.clear()
        job = await scene.job(words=["a", "other", "c"])
        await scene.drive(job)
        return await scene.read(job)

    job = asyncio.run(go())
    assert Counter(scene.hands.ended) == Counter(["script", "picture/1", "narration/1", "film"])
    assert (job.status, job.cost_microusd) == ("succeeded", 4 * COST)
    assert sorted(name for name, step in job.steps.items() if step.cached) == [
        *("narration/0", "narration/2", "picture/0", "picture/2"),
    ]


def test_a_step_that_fails_in_passing_is_tried_again(scene: Scene) -> None:
    """Twice in vain is no failure; what was paid in vain is on the bill."""
    failed: Counter[str] = Counter()

    async def stumble(step: Step) -> None:
        failed[step.name] += 1
        if step.name == "narration/1" and failed[step.name] < 3:
            raise StepFailed("overloaded", "Busy.", provider="fake", retryable=True, cost_microusd=7)

    async def go() -> Job:
        scene.hands.trouble = stumble
        job = await scene.job()
        await scene.drive(job)
        return await scene.read(job)

    job = asyncio.run(go())
    assert (job.status, job.cost_microusd, failed["narration/1"]) == ("succeeded", STEPS * COST + 14, 3)


def test_what_fails_is_named_and_alone_done_again(scene: Scene) -> None:
    """The job says which stage and frame; retrying does that and what follows, and none of what was done."""

    async def fail(step: Step) -> None:
        if step.name == "narration/2":
            raise StepFailed("provider_unavailable", "The voice is gone.", provider="fake", retryable=True)

    async def go() -> tuple[Job, Job]:
        job = await scene.job()
        scene.hands.trouble = fail
        await scene.drive(job)
        before = await scene.read(job)
        scene.hands.trouble = None
        assert await scene.jobs.retry(scene.owner, job.id) == "queued"
        await scene.drive()
        return before, await scene.read(job)

    before, after = asyncio.run(go())
    assert before.status == "failed"
    assert before.error == {
        "code": "provider_unavailable",
        "detail": "The voice is gone.",
        "stage": "narration",
        "frame": 2,
        "provider": "fake",
        "retryable": True,
    }
    assert (after.status, after.error) == ("succeeded", None)
    assert max(Counter(scene.hands.ended).values()) == 1
    assert Counter(scene.hands.began)["narration/2"] == pipeline.TRIES + 1


@pytest.mark.parametrize("strict", [False, True])
def test_a_stand_in_is_for_its_own_job_alone(scene: Scene, *, strict: bool) -> None:
    """What could not be had may be had next time: another job of the same parts tries again."""
    refuses = [True]

    async def refuse(step: Step) -> None:
        if step.name == "picture/1" and refuses[0]:
            raise StepFailed("content_blocked", "No.", provider="fake")

    async def go() -> tuple[Job, Job]:
        scene.hands.trouble = refuse
        first = await scene.job(words=["a", "b"], strict=strict)
        await scene.drive(first)
        refuses.clear()
        refuses.append(False)
        again = await scene.job(words=["a", "b"], strict=strict, again=True)
        await scene.drive(again)
        return await scene.read(first), await scene.read(again)

    first, again = asyncio.run(go())
    assert first.status == ("failed" if strict else "succeeded")
    assert strict or first.steps["picture/1"].result == {"made": "a card", "degraded": True}
    assert again.status == "succeeded"
    assert again.steps["picture/1"].result != first.steps["picture/1"].result
    assert again.steps["picture/0"].cached


def test_a_budget_is_never_exceeded(scene: Scene) -> None:
    """What runs side by side is counted before it is paid; what was made is kept."""

    async def go() -> Job:
        job = await scene.job(budget=4 * COST)
        await scene.drive(job)
        return await scene.read(job)

    job = asyncio.run(go())
    assert (job.status, job.error and job.error["code"]) == ("failed", "budget_exceeded")
    assert job.cost_microusd <= 4 * COST
    assert sum(step.status == "done" for step in job.steps.values()) == job.cost_microusd / COST > 1


def test_time_that_runs_out_is_no_failure(scene: Scene) -> None:
    """Steps that would not end in time are not begun; those that run are left, and done by whoever comes next."""

    async def go() -> tuple[Job, Job]:
        job = await scene.job()
        await scene.drive(job, within_s=15)
        before = await scene.read(job)
        await scene.drive()
        return before, await scene.read(job)

    before, after = asyncio.run(go())
    assert ("film" in before.steps, before.status, after.status) == (False, "running", "succeeded")
    assert scene.hands.began.count("film") == 1


def test_what_could_not_be_kept_is_left_at_once(scene: Scene) -> None:
    """A driver that the database failed once gives the job back: nobody waits for its lease to end."""

    async def go() -> Job:
        job = await scene.job()
        scene.rows.refuse_next = {"finish_vsl_step"}
        with pytest.raises(DataFailed):
            await scene.drive(job)
        await scene.drive(job)
        return await scene.read(job)

    job = asyncio.run(go())
    assert (job.status, scene.hands.ended.count("script")) == ("succeeded", 2)


def test_an_equal_order_may_spend_more_and_be_told(scene: Scene) -> None:
    """Neither makes another video: the job goes on with what the later order adds, and loses nothing to it."""

    async def go() -> list[tuple[int | None, str | None]]:
        orders: list[dict[str, Any]] = [
            {"budget": 1},
            {"budget": 5, "webhook": "https://a.example/done"},
            {"budget": 3, "webhook": "https://b.example/done"},
            {"budget": None},
            {"budget": 7},
        ]
        jobs = [await scene.job(**order) for order in orders]
        assert len({job.id for job in jobs}) == 1
        return [(job.budget_microusd, job.webhook_url) for job in jobs]

    url = "https://a.example/done"
    assert asyncio.run(go()) == [(1, None), (5, url), (5, url), (None, url), (None, url)]


def test_who_orders_what_is_finished_is_told_at_once(scene: Scene) -> None:
    """The webhook is due, as if it had been there before."""

    async def go() -> Job | None:
        await scene.drive(await scene.job())
        assert await scene.jobs.claim_webhook() is None
        await scene.job(webhook="https://a.example/done")
        return await scene.jobs.claim_webhook()

    due = asyncio.run(go())
    assert due is not None
    assert (due.status, due.webhook_url) == ("succeeded", "https://a.example/done")


def test_canceling_what_runs(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its driver learns of it, withdraws what runs, and ends the job; nothing is begun afterwards."""
    monkeypatch.setattr(pipeline, "RENEW_S", 0.05)

    async def go() -> tuple[str | None, Job]:
        job = await scene.job()
        running = asyncio.Event()

        async def hang(step: Step) -> None:
            if step.name == "picture/0":
                running.set()
                await asyncio.sleep(LONG)

        scene.hands.trouble = hang
        process = asyncio.create_task(scene.drive(job))
        await running.wait()
        said = await scene.jobs.cancel(scene.owner, job.id)
        with pytest.raises(StillRunning):
            await scene.jobs.delete(scene.owner, job.id)
        # Whoever orders the same now wants it, and not what is being given up.
        again = await scene.job()
        assert (again.id == job.id, again.status) == (False, "queued")
        await process
        assert await scene.jobs.retry(scene.owner, job.id) == "superseded"
        return said, await scene.read(job)

    said, job = asyncio.run(go())
    assert (said, job.status, "picture/0" in scene.hands.ended, scene.hands.at_once.total()) == (
        "canceling",
        "canceled",
        False,
        0,
    )


def test_who_lost_the_lease_stops(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was away too long does not end what another drives by now."""
    monkeypatch.setattr(pipeline, "RENEW_S", 0.05)

    async def go() -> Job:
        job = await scene.job()
        asleep = asyncio.Event()

        async def sleep(step: Step) -> None:
            if step.name == "picture/0" and not asleep.is_set():
                asleep.set()
                await asyncio.sleep(LONG)

        scene.hands.trouble = sleep
        first = asyncio.create_task(scene.drive(job))
        await asleep.wait()
        scene.rows.forget_leases()
        await scene.drive(job)
        await first
        return await scene.read(job)

    job = asyncio.run(go())
    assert (job.status, job.cost_microusd, job.result and len(job.result["of"])) == ("succeeded", STEPS * COST, STEPS)
    assert scene.hands.ended.count("picture/0") == 1


def test_a_step_that_kills_is_given_up(scene: Scene) -> None:
    """One that takes its process down every time fails the job in the end, instead of for ever."""

    async def die(step: Step) -> None:
        if step.name == "film":
            raise asyncio.CancelledError

    async def go() -> Job:
        job = await scene.job()
        scene.hands.trouble = die
        for _ in range(pipeline.MOST_ATTEMPTS):
            with pytest.raises(asyncio.CancelledError):
                await scene.drive(job)
            scene.rows.forget_leases()
        await scene.drive(job)
        return await scene.read(job)

    job = asyncio.run(go())
    assert (job.status, job.error and job.error["code"]) == ("failed", "gave_up")


def test_jobs_are_their_owners_alone(scene: Scene) -> None:
    """Nobody else finds, cancels, retries or deletes it; it goes with its owner."""
    other = scene.rows.user()

    async def go() -> list[Any]:
        job = await scene.job()
        return [
            await scene.jobs.find(other, job.id),
            await scene.jobs.cancel(other, job.id),
            await scene.jobs.retry(other, job.id),
            await scene.jobs.delete(other, job.id),
            await scene.jobs.list(other),
            await scene.jobs.cancel(scene.owner, job.id),
            await scene.jobs.delete(scene.owner, job.id),
            await scene.jobs.find(scene.owner, job.id),
        ]

    assert asyncio.run(go()) == [None, None, None, None, [], "canceled", [], None]
