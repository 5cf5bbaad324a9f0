"""`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): the first request works, the others get its answer.

Kept in rows, so that it holds across instances. Whoever comes while the first one works waits for it, for a while, and
then gets 409. The first holds a lease: if its instance dies, another may work once that is over.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from lib.data.circuit import Rpc
from lib.data.claims import answer_of
from lib.errors import Conflict, InvalidRequest

MAX_CHARACTERS = 128
MAX_KEPT_BYTES = 512 * 1024
WAIT_S = 20.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
OK = 200


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that is there already: its JSON, byte for byte."""

    body: bytes


class Lease:
    """The right to do the work under a key, until it is done, given back, or over."""

    def __init__(self, rpc: Rpc, row: dict[str, object], attempt: int) -> None:
        self._rpc = rpc
        self._row = {**row, "p_attempt": attempt}
        self._is_held = True

    async def keep(self, body: bytes) -> None:
        """Keep this answer, whole JSON, for those who come with the same key. Raises DataFailed."""
        self._is_held = False
        # As a text within JSON, so that jsonb neither orders its fields anew nor minds a \\u0000 in it.
        kept = body.decode() if len(body) <= MAX_KEPT_BYTES else None
        await self._rpc("complete_idempotency_key", {**self._row, "p_status": OK, "p_response": {"body": kept}})

    async def give_back(self) -> None:
        """Forget it, unless an answer was kept: the request may then be made again. Raises DataFailed."""
        if self._is_held:
            self._is_held = False
            await self._rpc("release_idempotency_key", self._row)


async def claim(rpc: Rpc, *, owner_id: str, route: str, key: str, content: object, lease_s: float) -> Lease | Kept:
    """The right to work, or the answer of who did. Raises Conflict, InvalidRequest, DataFailed.

    `content` is the request's JSON: under the same key it must be the same, whatever order its fields have.
    """
    if not 1 <= len(key) <= MAX_CHARACTERS or not key.isascii() or not key.isprintable():
        raise InvalidRequest(
            f"Idempotency-Key must have 1 to {MAX_CHARACTERS} printable characters.", code="idempotency_key_invalid"
        )
    row: dict[str, object] = {"p_owner_id": owner_id, "p_route": route, "p_key": key}
    digest = hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
    clock = asyncio.get_running_loop().time
    until, pause_s = clock() + WAIT_S, FIRST_PAUSE_S

    async def give_back(answer: Any) -> None:
        if answer["outcome"] == "claimed":
            await Lease(rpc, row, answer["attempt"]).give_back()

    while True:
        asked = {**row, "p_request_hash": digest, "p_lease_s": max(round(lease_s), 1)}
        answer: Any = await answer_of(rpc("claim_idempotency_key", asked), give_back)
        match answer["outcome"]:
            case "claimed":
                return Lease(rpc, row, answer["attempt"])
            case "done":
                return _kept(answer["response"])
            case "mismatch":
                raise InvalidRequest(
                    "This Idempotency-Key came with another request before.", code="idempotency_key_reused"
                )
            case _:
                if clock() >= until:
                    raise Conflict(
                        "The first request with this Idempotency-Key is still at work.",
                        code="idempotency_key_in_use",
                        retry_after_s=answer["retry_after_s"],
                    )
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _kept(response: Any) -> Kept:
    if response["body"] is None:
        raise Conflict("The answer was given, and was too large to be kept.", code="answer_not_kept")
    return Kept(response["body"].encode())
