"""The embedded pictures by way of our adapter, over the port that starts the engine."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from lib.app import App
from lib.providers.catalog import IMAGE_ROWS
from lib.providers.images import ImageRequest
from lib.settings import from_environ
from local.engine import Engine
from local.on_demand import OnDemand
from tests.fakes.loop import LoopThread

MODEL = next(row.models[0] for row in IMAGE_ROWS if row.name == "local")


def test_drawn(loop: LoopThread, tmp_path: Path) -> None:
    """The catalogue's row `local` draws real pictures: of the size and kind asked for, the same again for one seed."""

    async def draw() -> None:
        engine = OnDemand(Engine("local.images", tmp_path / "images.log"), "")
        app = App(from_environ({"LOCAL_IMAGES_BASE_URL": await engine.start()}))
        try:
            provider = app.image_provider("local")
            request = ImageRequest("A lighthouse at dawn", size=(320, 180), count=2, seed=3, format="png")
            first = await provider.draw(request, MODEL)
            again = await provider.draw(request, MODEL)
            collected = await provider.draw(request, MODEL, request_id=first.request_id)
        finally:
            await app.aclose()
            await engine.stop()
        assert [(each.format, each.width, each.height) for each in first.pictures] == [("png", 320, 180)] * 2
        assert first.pictures[0].data != first.pictures[1].data
        assert again.pictures == first.pictures == collected.pictures
        assert again.request_id != first.request_id == collected.request_id
        assert len(Image.open(io.BytesIO(first.pictures[0].data)).getcolors(1 << 24) or ()) > 100

    loop.run(draw(), timeout_s=120)
