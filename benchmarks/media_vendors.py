"""Vendors of text, pictures and speech that take a known time: `python -m benchmarks.media_vendors`; prints its URL."""

from __future__ import annotations

import asyncio
import json
import socket
from base64 import b64encode
from collections.abc import AsyncGenerator
from io import BytesIO

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

TEXT_S, PICTURE_S, SPEECH_S = 1.0, 2.0, 1.5
WORDS = [f"word{number} " for number in range(20)]
FRAME = b"\xff\xfb\x90\xc4" + bytes(414)
"""A frame of MP3, 26 ms of silence."""
ID = "0123456789abcdef"

_drawn_at: dict[str, float] = {}


def _picture() -> bytes:
    out = BytesIO()
    Image.effect_noise((256, 256), 60).convert("RGB").save(out, "JPEG")
    return out.getvalue()


PICTURE = _picture()


async def text(_: Request) -> Response:
    """POST …/chat/completions: twenty words over a second."""

    async def events() -> AsyncGenerator[bytes, None]:
        for word in WORDS:
            await asyncio.sleep(TEXT_S / len(WORDS))
            yield _event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
        yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        yield _event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 20, "total_tokens": 25}})
        yield b"data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def submit(request: Request) -> Response:
    """POST /{app}: taken."""
    quick = "quick" in (await request.json())["prompt"]
    _drawn_at[ID] = asyncio.get_running_loop().time() + (0 if quick else PICTURE_S)
    base = f"{request.base_url}fal-ai/flux/requests/{ID}"
    urls = {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}
    return JSONResponse({"status": "IN_QUEUE", "request_id": ID, "queue_position": 0, **urls})


async def status(_: Request) -> Response:
    """GET …/status: done once its time has come."""
    done = asyncio.get_running_loop().time() >= _drawn_at[ID]
    return JSONResponse({"status": "COMPLETED" if done else "IN_PROGRESS", "logs": None}, 200 if done else 202)


async def result(request: Request) -> Response:
    """GET …/{id}: where the picture is."""
    images = [{"url": f"{request.base_url}file.jpg", "width": 256, "height": 256, "content_type": "image/jpeg"}]
    told: dict[str, object] = {"images": images, "seed": 1, "has_nsfw_concepts": [False], "prompt": "", "timings": {}}
    return JSONResponse(told)


async def file(_: Request) -> Response:
    """GET /file.jpg."""
    return Response(PICTURE, media_type="image/jpeg")


async def speech(request: Request) -> Response:
    """POST …/with-timestamps: silence of a few seconds."""
    words: str = (await request.json())["text"]
    await asyncio.sleep(0 if "quick" in words else SPEECH_S)
    edges = [number * 0.05 for number in range(len(words) + 1)]
    alignment = {
        "characters": list(words),
        "character_start_times_seconds": edges[:-1],
        "character_end_times_seconds": edges[1:],
    }
    return JSONResponse({"audio_base64": b64encode(FRAME * 100).decode(), "alignment": alignment})


def _event(chunk: dict[str, object]) -> bytes:
    whole = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", **chunk}
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


def main() -> None:
    """Serve until killed."""
    app = Starlette(
        routes=[
            Route("/openai/v1/chat/completions", text, methods=["POST"]),
            Route("/v1/text-to-speech/{voice}/with-timestamps", speech, methods=["POST"]),
            Route("/file.jpg", file),
            Route("/{owner}/{alias}/requests/{id}/status", status),
            Route("/{owner}/{alias}/requests/{id}", result),
            Route("/{app:path}", submit, methods=["POST"]),
        ]
    )
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    main()
