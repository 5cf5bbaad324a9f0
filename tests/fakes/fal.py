"""fal at the network's edge: its queue with flux/schnell behind it, as fal describes them, and scripted faults."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tests.fakes.loop import LoopThread
from tests.fakes.web import Asked, Told, Web, told

Step = Literal["submit", "status", "result", "cancel", "file"]
SizeName = Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]
REQUEST_ID = "764cabcf-b745-4b3e-ae38-1200304cf45b"


class Size(BaseModel):
    """A size in pixels."""

    model_config = ConfigDict(extra="forbid")

    width: int = Field(gt=0, le=14_142)
    height: int = Field(gt=0, le=14_142)


class Input(BaseModel):
    """What fal-ai/flux/schnell takes."""

    model_config = ConfigDict(extra="forbid")

    prompt: str
    image_size: Size | SizeName = "landscape_4_3"
    num_inference_steps: int = Field(4, ge=1, le=12)
    seed: int | None = None
    guidance_scale: float = Field(3.5, ge=1, le=20)
    sync_mode: bool = False
    num_images: int = Field(1, ge=1, le=4)
    enable_safety_checker: bool = True
    output_format: Literal["jpeg", "png"] = "jpeg"
    acceleration: Literal["none", "regular", "high"] = "none"


class File(BaseModel):
    """One picture."""

    url: str
    width: int
    height: int
    content_type: str = "image/jpeg"


class Output(BaseModel):
    """What it answers."""

    images: list[File]
    timings: dict[str, float]
    seed: int
    has_nsfw_concepts: list[bool]
    prompt: str


def picture(width: int = 32, height: int = 16, kind: str = "JPEG") -> bytes:
    """The bytes of a picture."""
    out = BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, kind)
    return out.getvalue()


class FakeFal(Web):
    """The queue. `faults` are answered first, each once, by the step that they are to befall."""

    def __init__(self, loop: LoopThread) -> None:
        super().__init__(loop, self._answer)
        self.faults: list[tuple[Step, Told]] = []
        self.violations: list[str] = []
        self.steps: list[Step] = []
        self.pictures = [picture()]
        self.links: list[str] | None = None
        self.unsafe = False
        self._input = Input.model_validate({"prompt": ""})

    def count(self, step: Step) -> int:
        """How often this was asked."""
        return self.steps.count(step)

    def _answer(self, asked: Asked) -> Told:
        step = self._step(asked)
        self.steps.append(step)
        for number, (befallen, fault) in enumerate(self.faults):
            if befallen == step:
                del self.faults[number]
                return fault
        if step == "submit":
            return self._submit(asked)
        if step == "status":
            return told({"status": "COMPLETED", "logs": None, "metrics": {}})
        if step == "cancel":
            return told({"status": "CANCELLATION_REQUESTED"}, 202)
        if step == "file":
            return Told(200, self.pictures[int(asked.path.split("/")[-1])], {"content-type": "image/jpeg"})
        return told(self._output().model_dump())

    def _step(self, asked: Asked) -> Step:
        if asked.method == "POST":
            return "submit"
        if asked.path.startswith("/files/"):
            return "file"
        last = asked.path.rsplit("/", 1)[-1]
        return "status" if last == "status" else "cancel" if last == "cancel" else "result"

    def _submit(self, asked: Asked) -> Told:
        try:
            self._input = Input.model_validate_json(asked.body)
        except ValidationError as error:
            self.violations.append(str(error))
        # Where its own addresses lead is the queue's affair; ours is to go nowhere else.
        elsewhere = "https://elsewhere.example/requests/1"
        urls = {"response_url": elsewhere, "status_url": elsewhere, "cancel_url": elsewhere}
        return told({"status": "IN_QUEUE", "request_id": REQUEST_ID, "queue_position": 0, **urls})

    def _output(self) -> Output:
        links = self.links or [f"{self.url}/files/{number}" for number in range(len(self.pictures))]
        return Output(
            images=[File(url=link, width=32, height=16) for link in links],
            timings={"inference": 0.1},
            seed=self._input.seed or 7,
            has_nsfw_concepts=[self.unsafe] * len(links),
            prompt=self._input.prompt,
        )
