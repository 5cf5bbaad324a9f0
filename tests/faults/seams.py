"""The embedded model's own share of proven seams: real answers of it, cut at seeded places, which it goes on with.

`python -m tests.faults.seams` measures and keeps the figures in seams.json, from where write_docs.py takes them.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from lib import settings as environment
from lib.app import App
from lib.providers.base import ChatRequest, Delta, Model, TextProvider
from lib.providers.catalog import Row
from lib.router.breaker import BreakerPolicy
from lib.router.health import Health
from lib.router.recovery import ANCHOR_CHARACTERS, LEAD, Habit
from local.engine import Engine
from local.text import MODEL_NAME
from tests.conftest import ACCESS
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Cut, Reply, Vendor
from tests.faults.serving import Result, call, served

FILE = Path(__file__).parent / "seams.json"
SEED = 20_261_122
PLACES = 4
MAX_TOKENS = 100
HABITS: tuple[Habit, ...] = ("prefix", "anchor")
PROMPTS = (
    "Why is the sky blue?",
    "Write a short story about a lighthouse.",
    "Explain what a database index is.",
    "List five healthy breakfasts.",
    "How do I boil an egg?",
    "Describe the city of Paris.",
    "What is photosynthesis?",
    "Give me three tips for writing well.",
    "Who was Ada Lovelace?",
    "How does a bicycle stay upright?",
    "Write a polite email that declines an invitation.",
    "What is the difference between weather and climate?",
    "Explain recursion to a child.",
    "Write a poem about the sea.",
    "How do vaccines work?",
)
NEVER_RESTS = BreakerPolicy(consecutive=1_000_000, calls=1_000_000)


@dataclass(frozen=True)
class Spoken:
    """A real answer: its events as they came, and the text of each (empty for a role or an end)."""

    prompt: str
    events: Sequence[bytes]
    texts: Sequence[str]

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.texts)

    def until(self, place: int) -> Sequence[bytes]:
        """The events up to the one with the text of that number."""
        ends = [index for index, text in enumerate(self.texts) if text]
        return self.events[: ends[place] + 1]

    @property
    def places(self) -> range:
        """Where it can be cut: after any of its tokens but the last."""
        return range(sum(map(bool, self.texts)) - 1)


@dataclass(frozen=True)
class Joint:
    """One cut and what came of it: what the caller had by then, what the model then said, what the caller got."""

    habit: Habit
    whole: Spoken
    wants_reset: bool
    delivered: str
    said: str
    result: Result

    @property
    def is_proven(self) -> bool:
        """Whether the answer went on."""
        return self.result.ok and not self.result.resets

    @property
    def is_word_for_word(self) -> bool:
        """Whether it went on as it would have without the cut, as far as both go."""
        text, whole = self.result.text, self.whole.text
        return self.is_proven and (text.startswith(whole) or whole.startswith(text))

    @property
    def promise(self) -> str | None:
        """Which promise was broken, if any; judged from the texts alone, not by the router's own rules."""
        result, delivered = self.result, self.delivered
        if not delivered or not self.whole.text.startswith(delivered):
            return "what was delivered before the cut is the answer's beginning"
        if self.is_proven:
            return None if self._is_joined() else "prefix and continuation, each character once"
        if self.wants_reset:
            anew = (result.resets, result.ok, result.text) == (1, True, f"You said: {self.whole.prompt}")
            return None if anew else "a reset, then a whole answer"
        told = (result.ok, result.error, result.text) == (False, "stream_interrupted", delivered)
        return None if told else "an explicit error after what was delivered"

    def _is_joined(self) -> bool:
        rest = self.result.text.removeprefix(self.delivered)
        if self.delivered + rest != self.result.text or not self.said.endswith(rest):
            return False
        repeated = self.said[: len(self.said) - len(rest)]
        if self.habit == "prefix":
            return not repeated
        anchor = repeated.lstrip(LEAD)
        is_long_enough = len(anchor) >= min(ANCHOR_CHARACTERS, len(self.delivered))
        return bool(rest) and is_long_enough and self.delivered.endswith(anchor)


class Tap:
    """A provider whose continuations are overheard: what was asked to go on, and what was said."""

    def __init__(self, provider: TextProvider) -> None:
        self.name = provider.name
        self._provider = provider
        self.heard: list[tuple[str, list[str]]] = []

    async def stream(self, request: ChatRequest, model: Model) -> AsyncGenerator[Sequence[Delta], None]:
        """See TextProvider."""
        delivered = next(str(message["content"]) for message in request.messages if message["role"] == "assistant")
        said: list[str] = []
        self.heard.append((delivered, said))
        async with aclosing(self._provider.stream(request, model)) as batches:
            async for deltas in batches:
                said += [delta.text for delta in deltas]
                yield deltas


class TappedApp(App):
    """The product, with a tap at the embedded model."""

    tap: Tap | None = None

    def text_provider(self, name: str) -> TextProvider:
        """See App."""
        provider = super().text_provider(name)
        if name != "embedded":
            return provider
        self.tap = self.tap or Tap(provider)
        return self.tap


@contextmanager
def engine(loop: LoopThread) -> Generator[str]:
    """The real embedded model in a process of its own; gives its base URL."""
    with tempfile.TemporaryDirectory() as folder:
        process = Engine("local.text", Path(folder) / "text.log")
        try:
            yield loop.run(process.start())
        finally:
            loop.run(process.stop())


def ask(url: str, prompt: str) -> Spoken:
    """The model's whole answer, as its server streams it."""
    body = {
        "model": MODEL_NAME,
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
    }
    answer = httpx.post(f"{url}/chat/completions", json=body, timeout=120, headers={"connection": "close"})
    events = [event + b"\n\n" for event in answer.content.split(b"\n\n") if event.startswith(b"data: {")]
    return Spoken(prompt, events, [_text(json.loads(event[6:])) for event in events])


def _text(chunk: dict[str, list[dict[str, dict[str, str | None]]]]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


def joints(url: str, loop: LoopThread) -> Iterator[Joint]:
    """Cut each answer at each of its places, and have the model at `url` go on, both ways."""
    chance = random.Random(SEED)  # noqa: S311 - the same places each time
    spoken = [ask(url, prompt) for prompt in PROMPTS]
    cuts = [(whole, place) for whole in spoken for place in sorted(chance.sample(whole.places, PLACES))]
    for habit in HABITS:
        with closing(Vendor(loop)) as broken:
            app = _app(url, broken, habit)
            with served(app, loop) as site:
                for number, (whole, place) in enumerate(cuts):
                    broken.script(Reply([*whole.until(place), Cut(reset=chance.random() < 0.5)]))
                    yield _joint(app, site, habit, whole, wants_reset=number % 2 == 1)


def _joint(app: TappedApp, site: str, habit: Habit, whole: Spoken, *, wants_reset: bool) -> Joint:
    body: dict[str, object] = {"prompt": whole.prompt, "temperature": 0, "max_tokens": MAX_TOKENS}
    result = call(site, body | ({"ui_stream": "v7"} if wants_reset else {}), 120)
    assert app.tap is not None
    ((delivered, said),) = app.tap.heard
    app.tap.heard.clear()
    return Joint(habit, whole, wants_reset, delivered, "".join(said), result)


def _app(url: str, broken: Vendor, habit: Habit) -> TappedApp:
    """The product over one provider that breaks off and the embedded model, which is asked to go on."""
    model = Model(MODEL_NAME, 2_048, 512, continues_prefix=habit == "prefix")
    rows = tuple(
        Row(name, name, "openai", f"{name.upper()}_BASE_URL", (model,), model.id, model.id, keep_alive=False)
        for name in ("broken", "embedded")
    )
    environ = {**ACCESS, "BROKEN_BASE_URL": f"{broken.url}/v1", "EMBEDDED_BASE_URL": url}
    settings = environment.from_environ(environ, rows)
    return TappedApp(settings, rows, health=Health(NEVER_RESTS))


@dataclass(frozen=True)
class Shares:
    """How many cuts there were of each habit, how many seams were proven, and how many went on word for word."""

    measured: str
    answers: int
    cuts: int
    proven: dict[str, int]
    word_for_word: dict[str, int]


def shares(found: Sequence[Joint], measured: str) -> Shares:
    """The figures of a run."""
    return Shares(
        measured,
        len(PROMPTS),
        len(found) // len(HABITS),
        {habit: sum(joint.is_proven for joint in found if joint.habit == habit) for habit in HABITS},
        {habit: sum(joint.is_word_for_word for joint in found if joint.habit == habit) for habit in HABITS},
    )


def kept() -> Shares:
    """The figures that were last measured."""
    return Shares(**json.loads(FILE.read_text()))


def measure(progress: Callable[[Joint], None] = lambda _: None) -> list[Joint]:
    """Run everything over an engine of its own; takes a few minutes."""
    with closing(LoopThread()) as loop, engine(loop) as url:
        found: list[Joint] = []
        for joint in joints(url, loop):
            progress(joint)
            found.append(joint)
    return found


def main() -> None:
    """Measure and keep."""
    found = measure()
    broken = [joint for joint in found if joint.promise is not None]
    if broken:
        raise SystemExit(f"{len(broken)} promises were broken, first: {broken[0]}")
    figures = shares(found, datetime.now(UTC).date().isoformat())
    FILE.write_text(json.dumps(vars(figures), indent=2) + "\n")


if __name__ == "__main__":
    main()
