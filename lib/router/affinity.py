"""Who served a conversation last: it goes back there, where the beginning of its prompt may still be cached.

Pure, and within this process alone: what is forgotten costs a cached prefix, nothing more. A conversation is known by
the caller together with the id that its client gave it, or with its first messages, which every turn sends again: so
nobody's conversation is ever found by another caller.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from lib.providers.base import Conversation
from lib.router.plan import Candidate, ProviderFlag

MOST = 10_000
"""Conversations that are remembered: some 5 MB."""


def conversation_of(caller_id: str, chat_id: str | None, messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """The conversation that these messages belong to.

    Without an id it is known by what precedes its first answer. Who begins twice with the same words has two
    conversations of one key: so the first turn of one without an id never counts as going on.
    """
    answered = [message["role"] == "assistant" for message in messages]
    first = messages[: answered.index(True)] if any(answered) else messages
    named = {"id": chat_id} if chat_id is not None else {"first": first}
    digest = hashlib.sha256(orjson.dumps({"caller": caller_id, **named})).digest()
    # In the shape of a UUID, which is what vendors take for the name of a conversation.
    return Conversation(str(UUID(bytes=digest[:16], version=4)), goes_on=chat_id is not None or any(answered))


Assignment = tuple[str | None, str | None, str | None]


class Affinity:
    """Remembers, per conversation, the candidate that served it last and the assignment by which it was chosen."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._served: OrderedDict[str, tuple[Assignment, str, str]] = OrderedDict()

    def arrange(
        self, plan: tuple[Candidate, ...], conversation: Conversation, flag: ProviderFlag
    ) -> tuple[Candidate, ...]:
        """The plan with the candidate that served this conversation last in front, if it is in the plan.

        What is off or not allowed is in no plan, and what rests is passed over by whoever follows it. A flag that has
        changed since wins.
        """
        if not conversation.goes_on or conversation.key not in self._served:
            return plan
        self._served.move_to_end(conversation.key)
        assignment, *served = self._served[conversation.key]
        if assignment != _assignment(flag):
            return plan
        return tuple(sorted(plan, key=lambda candidate: [candidate.provider, candidate.model.id] != served))

    def served(self, conversation: Conversation, flag: ProviderFlag, candidate: Candidate) -> None:
        """This candidate has served the conversation; where there are too many, the one unused longest is forgotten."""
        self._served[conversation.key] = (_assignment(flag), candidate.provider, candidate.model.id)
        self._served.move_to_end(conversation.key)
        if len(self._served) > self._most:
            self._served.popitem(last=False)


def _assignment(flag: ProviderFlag) -> Assignment:
    """What a flag says for a caller, and nothing of how it came to say so."""
    return flag.arm, flag.provider, flag.model
