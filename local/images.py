"""The embedded picture engine: fal's queue protocol over pictures drawn by rule (local/drawing.py).

Runs as a process of its own (`python -m local.images [port]`), as every embedded engine does: prints its base URL when
it answers, ends when its standard input does. Speaks what fal-client does for an image model: submit, status, result,
cancel, and the pictures' own URLs (https://docs.fal.ai/model-apis/model-endpoints/queue).
"""

from __future__ import annotations

import asyncio
import io
import secrets
import socket
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

import uvicorn
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lib.providers.images import SIZES, SizeName
from local.drawing import draw

MAX_BODY_BYTES = 64 * 1024
KEPT = 200
"""Finished jobs with their pictures that stay fetchable; about half a megabyte each."""
SEED_BITS = 31


class Size(BaseModel):
    """A size in pixels."""

    width: int = Field(ge=64, le=2048)
    height: int = Field(ge=64, le=2048)


class Arguments(BaseModel):
    """What `fal-ai/flux/schnell` takes; what has no meaning for a drawing is accepted and has no effect."""

    model_config = ConfigDict(extra="ignore")

    prompt: str = Field(min_length=1, max_length=10_000)
    image_size: Size | SizeName = "landscape_4_3"
    num_images: int = Field(1, ge=1, le=4)
    seed: int | None = None
    output_format: Literal["jpeg", "png"] = "jpeg"
    enable_safety_checker: bool = True

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height."""
        if isinstance(self.image_size, Size):
            return self.image_size.width, self.image_size.height
        return SIZES[self.image_size]


@dataclass(slots=True)
class Job:
    """One request on the queue and what came of it."""

    arguments: Arguments
    seed: int
    state: Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "CANCELLED"] = "IN_QUEUE"
    pictures: list[bytes] = field(default_factory=list[bytes])
    seconds: float = 0.0

    @property
    def content_type(self) -> str:
        """Of its pictures."""
        return f"image/{self.arguments.output_format}"


class Queue:
    """Jobs in order, drawn one at a time."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, arguments: Arguments) -> str:
        """Take a request; return its id."""
        job = Job(arguments, secrets.randbits(SEED_BITS) if arguments.seed is None else arguments.seed)
        request_id = secrets.token_hex(16)
        self._jobs[request_id] = job
        while len(self._jobs) > KEPT:
            self._jobs.popitem(last=False)
        task = asyncio.create_task(self._draw(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return request_id

    def get(self, request_id: str) -> Job | None:
        """The job of that id, unless it is unknown or forgotten."""
        return self._jobs.get(request_id)

    def position(self, job: Job) -> int:
        """How many wait before it."""
        waiting = [other for other in self._jobs.values() if other.state == "IN_QUEUE"]
        return waiting.index(job) if job in waiting else 0

    async def _draw(self, job: Job) -> None:
        async with self._turn:
            if job.state == "CANCELLED":
                return
            job.state = "IN_PROGRESS"
            began = time.monotonic()
            for number in range(job.arguments.num_images):
                job.pictures.append(await asyncio.to_thread(_picture, job, number))
            job.seconds = time.monotonic() - began
            job.state = "COMPLETED"


def _picture(job: Job, number: int) -> bytes:
    width, height = job.arguments.pixels
    image = draw(job.arguments.prompt, width, height, job.seed + number)
    out = io.BytesIO()
    if job.arguments.output_format == "png":
        told = PngInfo()
        told.add_text("Software", "drawn by rule on this machine, not by a model")
        image.save(out, "PNG", pnginfo=told)
    else:
        image.save(out, "JPEG", quality=92, comment=b"drawn by rule on this machine, not by a model")
    return out.getvalue()


class Service:
    """The queue's HTTP face."""

    def __init__(self) -> None:
        self._queue = Queue()

    async def submit(self, request: Request) -> Response:
        """POST /{app}: take a request."""
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            return JSONResponse({"detail": "Request body is too large"}, 413)
        try:
            arguments = Arguments.model_validate_json(body)
        except ValidationError as error:
            told = error.errors(include_url=False, include_context=False, include_input=False)
            return JSONResponse({"detail": [item | {"loc": ["body", *item["loc"]]} for item in told]}, 422)
        request_id = self._queue.submit(arguments)
        owner, alias = [*request.path_params["app"].split("/"), ""][:2]
        base = f"{request.url.scheme}://{request.url.netloc}/{owner}/{alias}/requests/{request_id}"
        told = {"status": "IN_QUEUE", "request_id": request_id, "queue_position": 0}
        urls = {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}
        return JSONResponse(told | urls, headers={"x-fal-request-id": request_id})

    async def status(self, request: Request) -> Response:
        """GET …/status: where it stands."""
        job = self._queue.get(request.path_params["id"])
        if job is None or job.state == "CANCELLED":
            return _missing()
        if job.state == "IN_QUEUE":
            return JSONResponse({"status": job.state, "queue_position": self._queue.position(job)}, 202)
        if job.state == "IN_PROGRESS":
            return JSONResponse({"status": job.state, "logs": None}, 202)
        return JSONResponse({"status": job.state, "logs": None, "metrics": {"inference_time": job.seconds}})

    async def result(self, request: Request) -> Response:
        """GET …/requests/{id}: the pictures' URLs."""
        request_id = request.path_params["id"]
        job = self._queue.get(request_id)
        if job is None or job.state == "CANCELLED":
            return _missing()
        if job.state != "COMPLETED":
            return JSONResponse({"detail": "Request is still in progress"}, 400)
        width, height = job.arguments.pixels
        suffix = job.arguments.output_format
        files = f"{request.url.scheme}://{request.url.netloc}/files/{request_id}"
        images = [
            {"url": f"{files}/{number}.{suffix}", "width": width, "height": height, "content_type": job.content_type}
            for number in range(len(job.pictures))
        ]
        answer = {
            "images": images,
            "timings": {"inference": job.seconds},
            "seed": job.seed,
            "has_nsfw_concepts": [False] * len(images),
            "prompt": job.arguments.prompt,
        }
        return JSONResponse(answer, headers={"x-fal-request-id": request_id})

    async def cancel(self, request: Request) -> Response:
        """PUT …/cancel: a request that still waits is never drawn."""
        job = self._queue.get(request.path_params["id"])
        if job is None:
            return _missing()
        if job.state == "COMPLETED":
            return JSONResponse({"status": "ALREADY_COMPLETED"}, 400)
        job.state = "CANCELLED" if job.state == "IN_QUEUE" else job.state
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)

    async def picture(self, request: Request) -> Response:
        """GET /files/…: the bytes of one picture."""
        job = self._queue.get(request.path_params["id"])
        number = request.path_params["number"]
        if job is None or number >= len(job.pictures):
            return _missing()
        return Response(job.pictures[number], media_type=job.content_type)


def build() -> Starlette:
    """The engine as an ASGI app."""
    service = Service()
    return Starlette(
        routes=[
            Route("/files/{id}/{number:int}.{suffix}", service.picture),
            Route("/{owner}/{alias}/requests/{id}/status", service.status),
            Route("/{owner}/{alias}/requests/{id}/cancel", service.cancel, methods=["PUT"]),
            Route("/{owner}/{alias}/requests/{id}", service.result),
            Route("/{app:path}", service.submit, methods=["POST"]),
        ]
    )


def _missing() -> Response:
    return JSONResponse({"detail": "Request not found"}, 404)


def serve(app: Starlette, port: int) -> None:
    """Serve until standard input ends, having printed where; port 0 takes a free one."""
    listener = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server.run(sockets=[listener])


def _end_with_input(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True


if __name__ == "__main__":
    serve(build(), int(sys.argv[1]) if len(sys.argv) > 1 else 0)
