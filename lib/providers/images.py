"""What its callers and the adapters say to one another about pictures, and how their bytes are told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

ImageFormat = Literal["jpeg", "png"]
SizeName = Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]
SIZES: dict[SizeName, tuple[int, int]] = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
"""fal's words for shapes, as width and height in pixels."""
_PNG = b"\x89PNG\r\n\x1a\n"
_START_OF_FRAME = {bytes([marker]) for marker in range(0xC0, 0xD0)} - {b"\xc4", b"\xc8", b"\xcc"}


@dataclass(frozen=True, slots=True)
class ImageModel:
    """A model that draws up to `max_images` pictures a request; `arguments` go with every one to it."""

    id: str
    max_images: int = 4
    arguments: tuple[tuple[str, int | str], ...] = ()


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A picture to draw, free of any vendor. `size` is width and height in pixels, or fal's word for a shape."""

    prompt: str
    size: SizeName | tuple[int, int] = "landscape_16_9"
    count: int = 1
    seed: int | None = None
    format: ImageFormat = "jpeg"

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height."""
        return SIZES[self.size] if isinstance(self.size, str) else self.size


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's bytes and what they are, as read from themselves; sizes in pixels."""

    data: bytes
    format: ImageFormat
    width: int
    height: int

    @property
    def content_type(self) -> str:
        """Of `data`."""
        return f"image/{self.format}"


@dataclass(frozen=True, slots=True)
class Drawn:
    """The pictures of one request, the vendor's id of it, and the seed that would draw them again."""

    pictures: tuple[Picture, ...]
    request_id: str
    seed: int | None


class ImageProvider(Protocol):
    """A vendor of pictures. Everything raises ProviderError alone."""

    name: str

    async def draw(
        self,
        request: ImageRequest,
        model: ImageModel,
        *,
        submitted: Callable[[str], None] = ...,
        request_id: str | None = None,
    ) -> Drawn:
        """Draw `request`. `submitted` hears the vendor's id of the request as soon as there is one: keep it.

        Given as `request_id` afterwards, nothing is submitted (and paid) again: what became of that one is collected.
        Cancelling withdraws the request at the vendor.
        """
        ...


def read_picture(data: bytes) -> Picture | None:
    """What these bytes are by their own header (PNG 5.2 and 11.2.2, ITU T.81 B.2.2), or None: neither PNG nor JPEG."""
    if data.startswith(_PNG) and data[12:16] == b"IHDR":
        return _sized(data, "png", data[16:20], data[20:24])
    if data.startswith(b"\xff\xd8\xff"):
        place = 2
        while data[place : place + 1] == b"\xff":
            if data[place + 1 : place + 2] in _START_OF_FRAME:
                return _sized(data, "jpeg", data[place + 7 : place + 9], data[place + 5 : place + 7])
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def _sized(data: bytes, kind: ImageFormat, width: bytes, height: bytes) -> Picture | None:
    picture = Picture(data, kind, int.from_bytes(width, "big"), int.from_bytes(height, "big"))
    # One that is cut within them has not both whole.
    return picture if picture.width and picture.height and len(width) == len(height) else None
