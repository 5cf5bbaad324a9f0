"""The pictures and the speech of a generation, on their way beside its text; and answers that are nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import orjson
from starlette.responses import Response

from lib.control.parameters import Parameters
from lib.data.assets import Asset, Link
from lib.data.limits import Account
from lib.errors import AppError, FieldError, InvalidRequest, NotConfigured
from lib.http import ui_message
from lib.http.auth import Caller
from lib.http.endpoint import Call, Last, Stream
from lib.http.generate_request import GenerateRequest
from lib.http.media_request import ImageOptions, SpeechOptions
from lib.http.ui_message import UIMessageWriter
from lib.media.rendering import MediaContext, Rendered
from lib.router.plan import ProviderFlag
from lib.settings import SUPABASE_VARIABLES
from lib.telemetry.events import Subject, milliseconds

Output: TypeAlias = Literal["image", "speech"]
Maker = Callable[[str], Awaitable[Rendered]]
"""Makes an output, given what was written."""
Linker = Callable[[Asset], Awaitable[Link]]


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an output: its files as answers show them, or why there are none."""

    output: Output
    files: Sequence[dict[str, Any]] = ()
    error: AppError | None = None


class Media:
    """The outputs beside the text, each made in a task of its own. To be closed, however the request ends."""

    def __init__(self, makers: Mapping[Output, Maker], reads: Output | None, link: Linker) -> None:
        """`reads` is the output that waits for the text."""
        self._makers: dict[Output, Maker] = dict(makers)
        self._reads: Output | None = reads
        self._link = link
        self._tasks: dict[asyncio.Task[Made], Output] = {}
        self._made: list[Made] = []
        self._told = 0

    def begin(self) -> None:
        """Begin with everything that needs no text."""
        for output in self._makers:
            if output != self._reads:
                self._start(output, "")

    def written(self, text: str) -> None:
        """The text is complete: what waits for it begins, if there is anything to read."""
        if self._reads is None:
            return
        if text.strip():
            self._start(self._reads, text)
        else:
            self._made.append(Made(self._reads, error=AppError("There is no text to read.", code="nothing_to_read")))

    def news(self) -> Sequence[Made]:
        """What is ready and was not told yet. Waits for nothing."""
        for task in [task for task in self._tasks if task.done()]:
            self._collect(task)
        news = self._made[self._told :]
        self._told = len(self._made)
        return news

    def untell(self) -> None:
        """What was told was taken back with the rest of the answer: it is news again."""
        self._told = 0

    async def rest(self) -> AsyncGenerator[Made, None]:
        """The others, each as soon as it is ready; ends early where they are stopped."""
        for made in self.news():
            yield made
        while self._tasks:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            for made in self.news():
                yield made

    def stop(self) -> None:
        """Make no more: what is under way is cancelled, and so withdrawn at its vendor."""
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Stop, and wait until that is done."""
        self.stop()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()

    @property
    def under_way(self) -> Sequence[asyncio.Task[Made]]:
        """What is not ready."""
        return [task for task in self._tasks if not task.done()]

    @property
    def has_news(self) -> bool:
        """Whether `news` would say something."""
        return self._told < len(self._made) or any(task.done() for task in self._tasks)

    @property
    def files(self) -> list[dict[str, Any]]:
        """All files so far."""
        return [file for made in self._made for file in made.files]

    @property
    def failures(self) -> Sequence[Made]:
        """The outputs so far of which nothing became."""
        return [made for made in self._made if made.error is not None]

    def summary(self) -> dict[str, Any]:
        """As answers show it: `assets`, and `errors` where there are any."""
        errors = [told_error(made.output, made.error) for made in self._made if made.error is not None]
        return {"assets": self.files, **({"errors": errors} if errors else {})}

    def _start(self, output: Output, text: str) -> None:
        self._tasks[asyncio.create_task(self._make(output, text))] = output

    def _collect(self, task: asyncio.Task[Made]) -> None:
        del self._tasks[task]
        if not task.cancelled():
            self._made.append(task.result())

    async def _make(self, output: Output, text: str) -> Made:
        try:
            rendered = await self._makers[output](text)
            cost = None if rendered.cost_usd is None else float(rendered.cost_usd)
            taken = {"cached": rendered.cached, "cost_usd": cost if len(rendered.assets) == 1 else None}
            files = [{**shown(asset, await self._link(asset)), **taken} for asset in rendered.assets]
        except AppError as error:
            return Made(output, error=error)
        return Made(output, files)


class MediaAnswer:
    """An answer of pictures and speech alone, which were begun. Call `respond` once."""

    def __init__(
        self, media: Media, call: Call, caller_id: str, account: Account, message_id: str | None = None
    ) -> None:
        """`message_id` names the AI SDK's message that the answer goes into; by default a new one, the request's id."""
        self._media = media
        self._call = call
        self._caller_id = caller_id
        self._account = account
        self._message_id = message_id or call.id
        self._is_stopped = False
        self._watch = ExitStack()

    async def respond(self, form: str) -> Response:
        """JSON once all is made, or the UI message stream. Raises the first error where nothing was."""
        self._watch.enter_context(self._call.app.stops.watching(self._call.id, self._caller_id, self._stop))
        if form == "ui":
            return Stream(
                self._ui(), ui_message.MEDIA_TYPE, ui_message.HEADERS, self.aclose, heartbeat=ui_message.HEARTBEAT
            )
        async with aclosing(self):
            async for _ in self._media.rest():
                pass
        failures = self._media.failures
        if failures and not self._media.files and failures[0].error is not None:
            raise failures[0].error
        body = {"text": None, **self._summary()}
        return Response(orjson.dumps(body), media_type="application/json", headers={"cache-control": "no-store"})

    async def aclose(self) -> None:
        """Stop what is still being made."""
        await self._media.aclose()
        self._watch.close()

    async def _ui(self) -> AsyncGenerator[bytes, None]:
        writer = UIMessageWriter()
        yield writer.start(self._message_id, {"id": self._call.id})
        async with aclosing(self._media.rest()) as rest:
            async for made in rest:
                yield writer.files(made.files)
        summary = ui_message.without_none(self._summary())
        failures = self._media.failures
        if self._is_stopped:
            yield Last(writer.abort(summary))
        elif failures and not self._media.files and failures[0].error is not None:
            error = failures[0].error
            yield Last(writer.fail(error.message, {**summary, "error_code": error.code}))
        else:
            yield Last(writer.finish("stop", summary))

    def _stop(self) -> None:
        self._is_stopped = True
        self._media.stop()

    def _summary(self) -> dict[str, Any]:
        total = milliseconds(asyncio.get_running_loop().time() - self._call.arrived_at)
        return {
            "id": self._call.id,
            "finish_reason": "stop",
            **({"stopped": True} if self._is_stopped else {}),
            "cost_usd": dollars(self._account.purchased_microusd),
            "timing_ms": {"total": total},
            "flags": [],
            **self._media.summary(),
        }


def shown(asset: Asset, link: Link) -> dict[str, Any]:
    """An asset as answers show it; its URL holds until `expires_at`, in seconds since the epoch."""
    told: dict[str, Any] = {
        "id": asset.id,
        "kind": asset.kind,
        "url": link.url,
        "expires_at": round(link.expires_at),
        "content_type": asset.content_type,
        "bytes": asset.bytes,
        "sha256": asset.sha256,
        "provider": asset.provider,
        "model": asset.model,
        **{name: asset.metadata[name] for name in ("width", "height", "style") if name in asset.metadata},
    }
    if asset.audio is not None:
        told["duration_ms"] = asset.audio.duration_ms
        told["voice_id"] = asset.audio.voice_id
        told["language"] = asset.audio.language
    return told


def told_error(output: str, error: AppError) -> dict[str, str]:
    """A part of the answer that failed while others did not."""
    return {"output": output, "code": error.code, "detail": error.message}


def dollars(microusd: int | None) -> float | None:
    """Whole millionths as dollars."""
    return None if microusd is None else microusd / 1_000_000


def needs_storage(call: Call, form: str) -> None:
    """Raises InvalidRequest where the form has no place for files, NotConfigured where there is none to keep them."""
    if form == "text":
        message = "Pictures and speech can't be told in plain text: ask for JSON or the UI message stream."
        raise InvalidRequest(message, errors=(FieldError("outputs", "only text, in plain text"),))
    if call.app.assets is None:
        raise NotConfigured(f"Pictures and speech are kept in a project that is not set here: set {_names()}.")


def media_for(
    call: Call, caller: Caller, body: GenerateRequest, parameters: Parameters, account: Account, flag: ProviderFlag
) -> Media:
    """What this request is to be given beside its text, not begun yet. Raises InvalidRequest."""
    app = call.app
    if app.pictures is None or app.speaker is None or app.assets is None:
        raise NotConfigured(f"Pictures and speech are kept in a project that is not set here: set {_names()}.")
    pictures, speaker = app.pictures, app.speaker
    subject = Subject(
        request_id=call.id,
        caller_id=caller.id,
        caller_kind=caller.kind,
        route=call.request.url.path,
        flag=flag.not_applied(),
        prompt_characters=0,
        metadata=body.metadata,
    )
    context = MediaContext(
        subject,
        account,
        killed=flag.killed,
        fallback_order=parameters.fallback_order,
        anew=body.cache is False,
        ends_at=call.ends_at,
    )
    makers: dict[Output, Maker] = {}
    image, speech = body.image or ImageOptions(), body.speech or SpeechOptions()
    if "image" in body.outputs:
        request = image.request(image.prompt or body.question())
        style = image.style or parameters.img_style

        async def draw(_: str) -> Rendered:
            return await pictures.draw(caller.id, request, model=parameters.img_model, style=style, context=context)

        makers["image"] = draw
    if "speech" in body.outputs:

        async def speak(text: str) -> Rendered:
            if speech.enhance is not None:
                return await speaker.enhance(caller.id, str(speech.enhance), context=context)
            return await speaker.speak(caller.id, speech.request(text, parameters), context=context)

        makers["speech"] = speak
    reads: Output | None = "speech" if "speech" in body.outputs and speech.needs_text else None
    return Media(makers, reads, app.assets.link)


def _names() -> str:
    return ", ".join(SUPABASE_VARIABLES)
