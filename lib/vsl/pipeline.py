"""Drives a job: what can be done now is done side by side, and kept as soon as it is there.

`advance` may be called by anyone, any number of times, on any instance: the listening request, what is left of an
invocation, a poll, the worker. One of them drives; dying anywhere loses at most the steps that were running.
"""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import uuid4

from lib.data.circuit import Rpc
from lib.errors import DataFailed
from lib.vsl.jobs import Job, Jobs, Json, Lease, Lost, Stage

Pool = Literal["text", "pictures", "voices", "film"]
AT_ONCE: Mapping[Pool, int] = {"text": 1, "pictures": 4, "voices": 2, "film": 1}
"""Vendors refuse more than a few at once, and ffmpeg takes all cores by itself."""
TRIES = 3
"""How often one driver tries a step that fails in passing."""
MOST_ATTEMPTS = 6
"""How often a step may be begun in all: one that kills whoever does it must not go on for ever."""
RENEW_S = 5.0
"""So often the lease is renewed, and seen whether the owner wants the job to end."""
MOST_FAILURES = 5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
MARGIN_S = 3.0
"""What is still running this long before the end is left for the next who drives."""

log = logging.getLogger("vsl")


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do whose inputs are there. `content_key` is a hash of all that goes into it.

    `worst_microusd` is what it costs at most, `seconds` what it usually takes.
    """

    name: str
    stage: Stage
    pool: Pool
    content_key: str
    frame: int | None = None
    worst_microusd: int = 0
    seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a step."""

    result: Json
    cost_microusd: int = 0
    provider: str | None = None
    model: str | None = None
    cached: bool = False


class StepFailed(Exception):
    """A step could not be done. `cost_microusd` was paid all the same."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        provider: str | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        cost_microusd: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.provider = provider
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.cost_microusd = cost_microusd


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands."""

    stage: Stage
    percent: int


Plan = Callable[[Job, Mapping[str, Json]], Sequence[Step]]
"""All steps whose inputs are among these results, done ones included. Pure."""
Do = Callable[[Job, Step, Mapping[str, Json]], Awaitable[Made]]
"""Raises StepFailed."""
Instead = Callable[[Job, Step, Mapping[str, Json], StepFailed], Awaitable[Made | None]]
"""What stands in for a step that failed for good; None where nothing may."""
Measure = Callable[[Job, Mapping[str, Json]], Progress]
Finish = Callable[[Job, Mapping[str, Json]], Json]


@dataclass(frozen=True, slots=True)
class Works:
    """What a job is made of: `plan`, `measure` and `finish` (its result) are pure, `do` does a step."""

    plan: Plan
    do: Do
    instead: Instead
    measure: Measure
    finish: Finish


class Pipeline:
    """Drives jobs in this process."""

    def __init__(self, jobs: Jobs, rpc: Rpc, works: Works, chance: random.Random | None = None) -> None:
        self._jobs = jobs
        self._rpc = rpc
        self._works = works
        self._chance = chance or random.Random()  # noqa: S311 - spreads retries
        self._changed: dict[str, asyncio.Event] = {}

    async def advance(self, ends_at: float, job_id: str | None = None) -> str | None:
        """Drive this job, or any that is due, until it is over or time is (`ends_at`, the event loop's clock).

        The id of the job that was driven; None where there was nothing to drive. Raises DataFailed.
        """
        driver = str(uuid4())
        job = await self._jobs.claim(driver, job_id)
        if job is None:
            return None
        if not job.is_over:
            lease = Lease(self._rpc, job.id, driver)
            try:
                with suppress(Lost):
                    await _Drive(self, job, lease, ends_at).run()
            except DataFailed:
                with suppress(DataFailed):  # if it can be told now, nobody has to wait until the lease is over
                    await lease.release()
                raise
        self.tell(job.id)
        return job.id

    @property
    def works(self) -> Works:
        """What it does."""
        return self._works

    def pause_s(self, tried: int, told_s: float | None) -> float:
        """How long to wait after so many tries in vain: twice as long each time, or what the vendor says."""
        usual = min(FIRST_PAUSE_S * 2 ** (tried - 1), LONGEST_PAUSE_S)
        return min(max(told_s or 0.0, usual * self._chance.uniform(0.5, 1.5)), LONGEST_PAUSE_S)

    def tell(self, job_id: str) -> None:
        """Something has changed of this job: whoever listens in this process looks at once."""
        event = self._changed.get(job_id)
        if event is not None:
            event.set()

    async def changed(self, job_id: str, within_s: float) -> None:
        """Return when this process has changed something of the job, or after a while."""
        event = self._changed.setdefault(job_id, asyncio.Event())
        try:
            async with asyncio.timeout(within_s):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._changed.pop(job_id, None)


@dataclass(slots=True)
class _Drive:
    """One drive of one job."""

    pipeline: Pipeline
    job: Job
    lease: Lease
    ends_at: float
    results: dict[str, Json] = field(default_factory=dict[str, Json])
    spent_microusd: int = 0
    held_microusd: int = 0
    is_cancelling: bool = False
    failure: tuple[Step, StepFailed] | None = None

    async def run(self) -> None:
        """Raises Lost, DataFailed."""
        self.spent_microusd = self.job.cost_microusd
        running: dict[asyncio.Task[None], Step] = {}
        async with self._renewing():
            try:
                await self._loop(running)
            finally:
                await _cancelled(running)

    async def _loop(self, running: dict[asyncio.Task[None], Step]) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            waiting = self._begin(running)
            if not running:
                await self._end(waiting=waiting)
                return
            left_s = self.ends_at - MARGIN_S - clock()
            done, _ = await asyncio.wait(running, timeout=max(left_s, 0), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                step = running.pop(task)
                error = task.exception()
                if isinstance(error, StepFailed):
                    self.failure = self.failure or (step, error)
                elif error is not None:
                    raise error
            if not done:
                await _cancelled(running)
                await self.lease.release()
                return
            await self._note()

    def _begin(self, running: dict[asyncio.Task[None], Step]) -> bool:
        """Begin what can be; whether something waits for more time than there is."""
        if self.failure is not None or self.is_cancelling:
            return False  # what runs already may end, and is kept
        left_s = self.ends_at - MARGIN_S - asyncio.get_running_loop().time()
        busy = Counter(step.pool for step in running.values())
        names = {step.name for step in running.values()}
        waiting = False
        for step in self.pipeline.works.plan(self.job, self.results):
            if step.name in self.results or step.name in names:
                continue
            if step.seconds > left_s:
                waiting = True
            elif busy[step.pool] < AT_ONCE[step.pool]:
                busy[step.pool] += 1
                running[asyncio.create_task(self._step(step))] = step
        return waiting

    async def _step(self, step: Step) -> None:
        """Raises StepFailed, Lost, DataFailed."""
        known = self.job.steps.get(step.name)
        if known is None or known.status != "done" or known.content_key != step.content_key:
            known = await self.lease.start(step.name, step.content_key)
        if known.status == "done" and known.result is not None:
            self.results[step.name] = known.result
            return
        row = replace(known, result=None, error=None, cost_microusd=0, cached=False)
        began_at = asyncio.get_running_loop().time()
        try:
            made, wasted = await self._tried(step, known.attempts)
        except StepFailed as error:
            self.spent_microusd += error.cost_microusd
            told = failure(step, error)
            await self.lease.finish(replace(row, error=told, cost_microusd=error.cost_microusd, ms=_since(began_at)))
            raise
        self.results[step.name] = made.result
        self.spent_microusd += made.cost_microusd + wasted
        await self.lease.finish(
            replace(
                row,
                result=made.result,
                cost_microusd=made.cost_microusd + wasted,
                provider=made.provider,
                model=made.model,
                cached=made.cached,
                ms=_since(began_at),
            )
        )

    async def _tried(self, step: Step, attempts: int) -> tuple[Made, int]:
        """What was made, and what was paid for nothing. Raises StepFailed."""
        if attempts > MOST_ATTEMPTS:
            raise StepFailed("gave_up", "It was begun too often and never ended.")
        budget, wasted = self.job.budget_microusd, 0
        if budget is not None and self.spent_microusd + self.held_microusd + step.worst_microusd > budget:
            raise StepFailed("budget_exceeded", "The job's budget does not allow this step.")
        self.held_microusd += step.worst_microusd
        try:
            for tried in range(1, TRIES + 1):
                try:
                    return await self._done(step), wasted
                except StepFailed as error:
                    wasted += error.cost_microusd
                    if not error.retryable or tried == TRIES:
                        if (made := await self.pipeline.works.instead(self.job, step, self.results, error)) is not None:
                            return made, wasted
                        error.cost_microusd = wasted
                        raise
                    await asyncio.sleep(self.pipeline.pause_s(tried, error.retry_after_s))
            raise AssertionError
        finally:
            self.held_microusd -= step.worst_microusd

    async def _done(self, step: Step) -> Made:
        """What `do` makes. A bug of ours fails the step: it would do so again, whoever drives."""
        try:
            return await self.pipeline.works.do(self.job, step, self.results)
        except (StepFailed, Lost, DataFailed):
            raise
        except Exception as bug:
            last = traceback.extract_tb(bug.__traceback__)[-1]
            log.error("internal_error %s %s at %s:%s", step.name, type(bug).__name__, last.filename, last.lineno)  # noqa: TRY400 - its message may hold a prompt
            raise StepFailed("internal_error", "Something went wrong on our side.") from bug

    async def _end(self, *, waiting: bool) -> None:
        if self.is_cancelling:
            await self.lease.end("canceled")
        elif self.failure is not None:
            await self.lease.end("failed", error=failure(*self.failure))
        elif waiting:
            await self.lease.release()
        else:
            await self.lease.end("succeeded", result=self.pipeline.works.finish(self.job, self.results))

    async def _note(self) -> None:
        progress = self.pipeline.works.measure(self.job, self.results)
        self.is_cancelling = not await self.lease.renew(progress.stage, progress.percent)
        self.pipeline.tell(self.job.id)

    @asynccontextmanager
    async def _renewing(self) -> AsyncGenerator[None]:
        """Keep the lease while it lasts; stop everything where it is gone, or its owner wants the job to end."""
        driving = asyncio.current_task()
        assert driving is not None  # noqa: S101 - a coroutine always runs in one
        renewing = asyncio.create_task(self._renew(driving))
        try:
            yield
        except asyncio.CancelledError:
            if not renewing.done() or driving.uncancel() > 0:
                raise  # the process shuts down
            renewing.result()  # raises why, unless the owner wanted it
            await self.lease.end("canceled")
        finally:
            renewing.cancel()

    async def _renew(self, driving: asyncio.Task[Any]) -> None:
        """Return where the owner wants the job to end. Raises Lost, DataFailed; `driving` is cancelled in any case."""
        failures = 0
        try:
            while True:
                await asyncio.sleep(RENEW_S)
                try:
                    if not await self.lease.renew():
                        driving.cancel()
                        return
                    failures = 0
                except DataFailed:
                    failures += 1
                    if failures > MOST_FAILURES:
                        raise  # somebody else will hold the lease soon: nothing may be begun any more
        except asyncio.CancelledError:
            raise  # the drive has ended by itself
        except BaseException:
            driving.cancel()
            raise


def failure(step: Step, error: StepFailed) -> Json:
    """What a caller is told of a failed step."""
    told: dict[str, Any] = {
        "code": error.code,
        "detail": error.message,
        "stage": step.stage,
        "frame": step.frame,
        "provider": error.provider,
        "retryable": error.retryable,
    }
    return {name: value for name, value in told.items() if value is not None}


async def _cancelled(running: dict[asyncio.Task[None], Step]) -> None:
    """Cancel these and wait until they have ended: what was asked of a vendor is withdrawn meanwhile."""
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    running.clear()


def _since(began_at: float) -> int:
    return round((asyncio.get_running_loop().time() - began_at) * 1000)
