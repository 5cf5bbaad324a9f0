"""Pictures drawn by rule, and fal's queue protocol around them."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import httpx
import pytest
from PIL import Image

from local.drawing import STYLES, draw
from local.images import build


@pytest.mark.parametrize("style", STYLES)
def test_every_style(style: str) -> None:
    """Each fills its picture: of the size asked for, with many colours, the same again, another for another seed."""
    picture = draw(f"A lamp in the night, {style}", 160, 90, 7)
    assert picture.size == (160, 90)
    assert len(picture.getcolors(1 << 16) or ()) > 20
    assert picture.tobytes() == draw(f"A lamp in the night, {style}", 160, 90, 7).tobytes()
    assert picture.tobytes() != draw(f"A lamp in the night, {style}", 160, 90, 8).tobytes()


@pytest.mark.parametrize("prompt", ["x", "  ", "«¡…!»", "a" * 5_000, "夜の海", "a\0b\n\n"])
def test_any_prompt(prompt: str) -> None:
    """Whatever the words are, there is a picture."""
    assert draw(prompt, 96, 64, 1).size == (96, 64)


def test_queue() -> None:
    """Submitted, looked at until it is done, fetched; what does not fit is refused as fal would."""

    async def play() -> tuple[dict[str, Any], bytes, list[int]]:
        transport = httpx.ASGITransport(build())
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            wanted = {"prompt": "A harbour", "image_size": {"width": 128, "height": 96}, "output_format": "png"}
            told = (await client.post("/fal-ai/flux/schnell", json=wanted)).json()
            while (await client.get(told["status_url"])).json()["status"] != "COMPLETED":  # noqa: ASYNC110 - as its SDK does
                await asyncio.sleep(0.01)
            result = (await client.get(told["response_url"])).json()
            picture = await client.get(result["images"][0]["url"])
            refused = [
                (await client.post("/fal-ai/flux/schnell", json={"prompt": ""})).status_code,
                (await client.put(told["cancel_url"])).status_code,
                (await client.get("/fal-ai/flux/requests/none/status")).status_code,
            ]
            return result, picture.content, refused

    result, content, refused = asyncio.run(play())
    assert Image.open(io.BytesIO(content)).size == (128, 96)
    assert (result["has_nsfw_concepts"], result["prompt"]) == ([False], "A harbour")
    assert refused == [422, 400, 404]
