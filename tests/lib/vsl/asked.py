"""Scripts asked of an app's vendors, as a job asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from lib.app import App
from lib.data.limits import Account, Cap
from lib.data.limits import Subject as Payer
from lib.ids import uuid7
from lib.media.rendering import MediaContext
from lib.router.attempt import Policy
from lib.router.plan import ProviderFlag
from lib.settings import from_environ
from lib.telemetry.events import Subject
from lib.vsl.asking import Asker
from lib.vsl.screenplay import Script
from lib.vsl.script import write_script


@dataclass(frozen=True)
class Written:
    """A script, what it cost, what was booked for it in millionths of a dollar, and who wrote it."""

    script: Script
    cost_usd: Decimal | None
    booked_microusd: int | None
    model: str | None


def write(request: Mapping[str, Any], environ: dict[str, str], *, cap: Cap | None = None) -> Written:
    """The script of a request. Raises AppError."""

    async def written() -> Written:
        app = App(from_environ(environ), policy=Policy(), cap=cap)
        request_id = uuid7()
        subject = Subject(request_id, "somebody", "key", "/api/vsl", ProviderFlag(), 0, {})
        account = Account(app.limits, request_id, Payer("key", "somebody", None))
        asker = Asker(app.router, app.recorder, MediaContext(subject, account), app.policy)
        try:
            script = await write_script(request, asker)
        finally:
            await account.settle()
            await app.aclose()
        model = asker.served_by.model.id if asker.served_by else None
        return Written(script, asker.cost_usd, account.purchased_microusd, model)

    return asyncio.run(written())
