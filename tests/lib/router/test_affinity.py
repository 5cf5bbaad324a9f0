"""A conversation goes back to who served it last, within one caller and one assignment."""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lib.providers.base import Conversation
from lib.router.affinity import Affinity, conversation_of
from lib.router.plan import Candidate, ProviderFlag
from tests.lib.router.cores import A, B, C

FLAG = ProviderFlag(arm="a", provider="a")
PLAN = (A, B, C)
CHAT = Conversation("chat", goes_on=True)
SYSTEM, HI, HELLO, MORE = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "More"},
)


def served_by(*candidates: Candidate, flag: ProviderFlag = FLAG) -> Affinity:
    """A memory in which these served the conversation, in this order."""
    affinity = Affinity()
    for candidate in candidates:
        affinity.served(CHAT, flag, candidate)
    return affinity


def test_unknown_conversation() -> None:
    """A conversation that nobody has served follows the plan."""
    assert Affinity().arrange(PLAN, CHAT, FLAG) == PLAN


def test_goes_back() -> None:
    """Who served it last comes first; the others keep their order."""
    assert served_by(C, B).arrange(PLAN, CHAT, FLAG) == (B, A, C)
    assert served_by(C).arrange(PLAN, CHAT, FLAG) == (C, A, B)
    assert served_by(A).arrange(PLAN, CHAT, FLAG) == PLAN


@pytest.mark.parametrize("plan", [(A, C), (A,), (Candidate("b", A.model), A)], ids=["off", "alone", "another model"])
def test_who_is_not_in_the_plan_is_not_asked(plan: tuple[Candidate, ...]) -> None:
    """Whatever took it out of the plan (a switch, a capability, the caller's choice) holds."""
    assert served_by(B).arrange(plan, CHAT, FLAG) == plan


@pytest.mark.parametrize(
    "flag",
    [
        ProviderFlag(arm="c", provider="c"),
        ProviderFlag(arm="a", provider="a", model="strong"),
        ProviderFlag(arm="other", provider="a"),
        ProviderFlag(),
    ],
)
def test_changed_flag_wins(flag: ProviderFlag) -> None:
    """As soon as the caller is assigned otherwise the plan is followed, and the new assignment is what is kept."""
    affinity = served_by(B)
    assert affinity.arrange(PLAN, CHAT, flag) == PLAN
    assert affinity.arrange(PLAN, CHAT, FLAG) == (B, A, C)
    affinity.served(CHAT, flag, C)
    assert affinity.arrange(PLAN, CHAT, FLAG) == PLAN
    assert affinity.arrange(PLAN, CHAT, flag) == (C, A, B)


def test_first_turn_follows_the_plan() -> None:
    """A conversation that begins is nobody's yet, though another may have begun with the same words."""
    affinity = served_by(B)
    assert affinity.arrange(PLAN, Conversation("chat", goes_on=False), FLAG) == PLAN
    assert affinity.arrange(PLAN, CHAT, FLAG) == (B, A, C)


def test_key_of_a_named_conversation() -> None:
    """With an id it is the id and the caller that count, from the first turn on; the key shows neither."""
    first, later = (conversation_of("caller", "chat-1", messages) for messages in ([HI], [SYSTEM, HELLO, MORE]))
    assert first == later
    assert first.goes_on
    assert UUID(first.key).version == 4
    assert conversation_of("caller", "chat-2", [HI]).key != first.key
    assert conversation_of("another", "chat-1", [HI]).key != first.key


@pytest.mark.parametrize("opening", [[HI], [SYSTEM, HI], [SYSTEM, HI, MORE]])
def test_key_of_an_unnamed_conversation(opening: list[dict[str, str]]) -> None:
    """Without one it is known by what precedes its first answer, which every turn repeats."""
    turns = [conversation_of("caller", None, [*opening, *rest]) for rest in ([], [HELLO, MORE], [HELLO, MORE, HELLO])]
    assert len({turn.key for turn in turns}) == 1
    assert [turn.goes_on for turn in turns] == [False, True, True]
    assert conversation_of("another", None, opening).key != turns[0].key
    assert conversation_of("caller", None, [*opening, HI]).key != turns[0].key


TEXTS = st.text(max_size=5)


@given(TEXTS, TEXTS, st.none() | TEXTS, st.none() | TEXTS, st.lists(TEXTS), st.lists(TEXTS))
def test_no_two_callers_share_a_conversation(
    caller: str, other: str, name: str | None, other_name: str | None, said: list[str], other_said: list[str]
) -> None:
    """Two conversations have one key exactly where caller and name, or caller and first messages, are the same."""
    first, second = (
        conversation_of(who, named, [{"role": "user", "content": text} for text in texts])
        for who, named, texts in ((caller, name, said), (other, other_name, other_said))
    )
    same = caller == other and (name == other_name if None not in (name, other_name) else name is other_name is None)
    assert (first.key == second.key) is (same and (name is not None or said == other_said))


class Memory(RuleBasedStateMachine):
    """Conversations that are served and asked for in any order, beside a plain list of who was used when."""

    MOST = 3

    def __init__(self) -> None:
        super().__init__()
        self.affinity = Affinity(self.MOST)
        self.known: OrderedDict[str, Candidate] = OrderedDict()

    @rule(key=st.sampled_from("uvwxyz"), candidate=st.sampled_from(PLAN))
    def serve(self, key: str, candidate: Candidate) -> None:
        """A candidate serves."""
        self.affinity.served(Conversation(key, goes_on=True), FLAG, candidate)
        self.known[key] = candidate
        self.known.move_to_end(key)
        if len(self.known) > self.MOST:
            self.known.popitem(last=False)

    @rule(key=st.sampled_from("uvwxyz"))
    def ask(self, key: str) -> None:
        """What is known is first, and is used by that; what was unused longest is forgotten."""
        arranged = self.affinity.arrange(PLAN, Conversation(key, goes_on=True), FLAG)
        if key in self.known:
            self.known.move_to_end(key)
        assert arranged[0] == self.known.get(key, A)
        assert sorted(candidate.provider for candidate in arranged) == ["a", "b", "c"]

    @invariant()
    def stays_small(self) -> None:
        """It never remembers more than it may."""
        assert len(self.known) <= self.MOST


TestMemory = Memory.TestCase
