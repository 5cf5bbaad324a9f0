"""Pictures, drawn once: who draws, what is kept of it, what it costs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from lib.data.assets import Claim, NewFile
from lib.errors import AppError, ModelUnavailable
from lib.media.plan import Painter, Vendors, plan_pictures
from lib.media.rendering import MediaContext, Order, Rendered, Renderer
from lib.media.styles import styled
from lib.providers.base import Units
from lib.providers.catalog import ImageRow
from lib.providers.images import Drawn, ImageProvider, ImageRequest
from lib.router.attempt import Attempt
from lib.router.plan import Candidate
from lib.telemetry.cost import billed_megapixels

log = logging.getLogger("media")


class Pictures:
    """Draws by the vendors that are on."""

    def __init__(
        self,
        rows: Sequence[ImageRow],
        on: Collection[str],
        provider: Callable[[str], ImageProvider],
        renderer: Renderer,
    ) -> None:
        """`provider` returns the adapter of a vendor that is on."""
        self._rows = rows
        self._on = on
        self._provider = provider
        self._renderer = renderer

    async def draw(
        self,
        owner_id: str,
        request: ImageRequest,
        *,
        model: str | None = None,
        style: str | None = None,
        context: MediaContext,
    ) -> Rendered:
        """The pictures of `request` as its owner's assets, in the style of that name or words (lib/media/styles.py).

        `model` is for whichever vendor offers it. The same again is what was drawn before, unless `context.anew`.
        Raises AppError where there is no picture; cancelling it withdraws the request at the vendor.
        """
        title = request.prompt
        request = replace(request, prompt=styled(request.prompt, style))
        vendors = Vendors(self._on, context.killed, context.fallback_order)
        painters = plan_pictures(request, model, self._rows, vendors)
        context = replace(context, subject=replace(context.subject, modality="image"))
        drawing = _Drawing(request, painters, self._provider)
        told: dict[str, Any] = {"prompt": title, **({"style": style} if style else {})}

        def files(drawn: Drawn, by: Candidate) -> tuple[NewFile, ...]:
            return tuple(
                NewFile(
                    picture.data,
                    picture.content_type,
                    "image",
                    {**told, "width": picture.width, "height": picture.height, "seed": drawn.seed},
                    provider=by.provider,
                    model=by.model.id,
                )
                for picture in drawn.pictures
            )

        order = Order(
            plan=[painter.route for painter in painters],
            parameters=drawing.parameters,
            inputs={"prompt": request.prompt},
            most=drawing.most,
            ask=drawing.ask,
            billed=drawing.billed,
            files=files,
        )
        return await self._renderer.render(owner_id, order, context)


class _Drawing:
    """One request at whoever is asked for it. A vendor that has taken it is not given it twice."""

    def __init__(
        self, request: ImageRequest, painters: Sequence[Painter], provider: Callable[[str], ImageProvider]
    ) -> None:
        self._request = request
        self._painters = {painter.route: painter for painter in painters}
        self._provider = provider
        self._taken: dict[Candidate, str] = {}
        self._looked: set[Candidate] = set()

    def parameters(self, candidate: Candidate) -> Mapping[str, object]:
        """What makes the picture another one, but for its prompt."""
        parameters = asdict(self._request)
        del parameters["prompt"]
        return {**parameters, "arguments": dict(self._painters[candidate].model.arguments)}

    @property
    def most(self) -> Units:
        """What it is billed by at most."""
        return Units("megapixels", billed_megapixels([self._request.pixels] * self._request.count))

    async def ask(self, attempt: Attempt, claim: Claim) -> Drawn:
        """Draw by the attempt's vendor, or collect what it has taken already."""
        vendor = attempt.candidate
        noted = claim.vendor_request_id if (claim.vendor, claim.model) == (vendor.provider, vendor.model.id) else None
        if noted is not None and vendor not in self._taken and vendor not in self._looked:
            self._looked.add(vendor)
            with suppress(ModelUnavailable):  # nothing is known there any more of what was asked for earlier
                return await self._draw(attempt, claim, noted)
        return await self._draw(attempt, claim, self._taken.get(vendor))

    async def _draw(self, attempt: Attempt, claim: Claim, request_id: str | None) -> Drawn:
        vendor = attempt.candidate
        if request_id is not None:
            attempt.units = Units(self.most.unit, 0)  # on the bill of the call that has submitted it
        notes: list[asyncio.Task[None]] = []

        def submitted(request_id: str) -> None:
            self._taken[vendor] = request_id
            attempt.units = Units(self.most.unit, self.most.amount, estimated=True)  # refused later, it is paid for
            notes.append(asyncio.create_task(_note(claim, vendor, request_id)))

        try:
            return await self._provider(vendor.provider).draw(
                self._request, self._painters[vendor].model, submitted=submitted, request_id=request_id
            )
        finally:
            for note in notes:
                await note

    @staticmethod
    def billed(drawn: Drawn) -> Units:
        """What the pictures are billed by."""
        return Units("megapixels", billed_megapixels((picture.width, picture.height) for picture in drawn.pictures))


async def _note(claim: Claim, vendor: Candidate, request_id: str) -> None:
    """So that whoever takes up this work, should we die, looks there before it is asked for again."""
    try:
        await claim.note(vendor.provider, vendor.model.id, request_id)
    except AppError as error:
        log.warning("a request at %s could not be noted: %s", vendor.provider, error.code)
