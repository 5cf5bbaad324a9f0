"""What the tests of the router's core share: candidates, a started core, and what its actions say."""

from __future__ import annotations

from collections.abc import Sequence

from lib.errors import AppError, ProviderError
from lib.providers.base import Delta, Model
from lib.router.attempt import Action, Attempt, Close, Deliver, Failed, GiveUp, Open, Policy, Received, Reset
from lib.router.completion import Completion
from lib.router.health import Health
from lib.router.plan import Candidate

START = 100.0
POLICY = Policy(first_token_s=4, idle_s=10, patience_s=30, total_s=60)


def candidate(name: str, context_tokens: int = 8_192, *, continues_prefix: bool = False) -> Candidate:
    """A provider and its one model."""
    return Candidate(name, Model(f"{name}-model", context_tokens, 1_024, continues_prefix=continues_prefix))


A, B, C = (candidate(name) for name in "abc")


def started(*plan: Candidate, policy: Policy = POLICY, health: Health | None = None, now: float = START) -> Completion:
    """A request whose first candidate has just been called."""
    core = Completion(plan or (A, B), policy, health or Health(), lambda: 0.5, now)
    opened(core.start(now))
    return core


def said(core: Completion, text: str, now: float, number: int = 0) -> list[Action]:
    """The attempt of that number, or the last, says this."""
    return core.handle(Received(core.attempts[number - 1], [Delta(text=text)]), now)


def failed(core: Completion, error: ProviderError, now: float, number: int = 0) -> list[Action]:
    """The attempt of that number, or the last, fails."""
    return core.handle(Failed(core.attempts[number - 1], error), now)


def opened(actions: Sequence[Action]) -> Attempt:
    """The one attempt that these actions begin; they do nothing else."""
    (action,) = actions
    assert isinstance(action, Open)
    return action.attempt


def gave_up(actions: Sequence[Action]) -> AppError:
    """The error that the caller is told; these actions do nothing else."""
    (action,) = actions
    assert isinstance(action, GiveUp)
    return action.error


def text_of(actions: Sequence[Action]) -> str:
    """What the caller gets to read."""
    return "".join(delta.text for action in actions if isinstance(action, Deliver) for delta in action.deltas)


def kinds(actions: Sequence[Action]) -> list[str]:
    """The actions in short: what, and of which attempt."""
    short: list[str] = []
    for action in actions:
        match action:
            case Open(attempt) | Close(attempt):
                short.append(f"{type(action).__name__} {attempt.number}")
            case Reset():
                short.append("Reset")
            case _:
                short.append(type(action).__name__)
    return short
