"""The vendors: one row each. Settings, doctor, health, docs and tests are driven by these rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from lib.providers.base import Capability, Model
from lib.providers.embeddings import EmbeddingModel
from lib.providers.images import ImageModel
from lib.providers.speech import SpeechModel


@dataclass(frozen=True, slots=True)
class Row:
    """A vendor of text.

    `fast` and `strong` name the models behind those two words. `key_var` is None for a vendor without a key: it is
    on as soon as its base URL is set. `demo` keeps an embedded model out of the plan while a hosted vendor is on.
    `keep_alive` is off for a server that offers to keep connections and then closes them. `conversation_header` takes
    an opaque name of the conversation, by which the vendor sends its turns to where their beginning is cached.
    """

    name: str
    label: str
    sdk: Literal["openai", "groq"]
    base_url_var: str
    models: tuple[Model, ...]
    fast: str
    strong: str
    key_var: str | None = None
    base_url: str | None = None
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    demo: bool = False
    keep_alive: bool = True
    conversation_header: str | None = None
    models_path: str = "/models"
    """Where it lists its models, behind the base URL."""

    def model(self, model_id: str) -> Model | None:
        """The model of that id, or None where the vendor is not known to offer it."""
        return next((model for model in self.models if model.id == model_id), None)


def _can(*capabilities: Capability) -> frozenset[Capability]:
    return frozenset(capabilities)


_TOOLS_TOO: tuple[Capability, ...] = ("tools", "json_schema_with_tools")
"""For models that take a response_format beside tools: xAI's do, Groq answers 400, DeepInfra does not say."""

# Order is the default order of preference. Base URLs are as each SDK wants them.
ROWS: tuple[Row, ...] = (
    Row(
        name="groq",
        label="Groq",
        sdk="groq",
        key_var="GROQ_API_KEY",
        base_url_var="GROQ_BASE_URL",
        base_url="https://api.groq.com",
        max_tokens_field="max_completion_tokens",
        models=(
            Model("openai/gpt-oss-20b", 131_072, 65_536, _can("json_schema", "reasoning", "tools")),
            Model("openai/gpt-oss-120b", 131_072, 65_536, _can("json_schema", "reasoning", "tools")),
            Model(
                "qwen/qwen3.8-27b",
                131_072,
                32_768,
                # It thinks, but takes no low, medium or high; and by default its thoughts stand within the text.
                _can("json_schema", "tools"),
                arguments=(("reasoning_format", "parsed"),),
            ),
        ),
        fast="openai/gpt-oss-20b",
        strong="openai/gpt-oss-120b",
    ),
    Row(
        name="xai",
        label="xAI",
        sdk="openai",
        key_var="XAI_API_KEY",
        base_url_var="XAI_BASE_URL",
        base_url="https://api.x.ai/v1",
        conversation_header="x-grok-conv-id",
        models_path="/language-models",  # unlike /models, with prices
        max_tokens_field="max_completion_tokens",
        models=(
            Model("grok-4.20-0309-non-reasoning", 1_000_000, 65_536, _can("json_schema", "vision", *_TOOLS_TOO)),
            Model("grok-4.7", 500_000, 65_536, _can("json_schema", "vision", "reasoning", *_TOOLS_TOO)),
        ),
        fast="grok-4.20-0309-non-reasoning",
        strong="grok-4.7",
    ),
    Row(
        name="deepinfra",
        label="DeepInfra",
        sdk="openai",
        key_var="DEEPINFRA_API_KEY",
        base_url_var="DEEPINFRA_BASE_URL",
        base_url="https://api.deepinfra.com/v1/openai",
        models=(
            Model("meta-llama/Llama-3.3-70B-Instruct-Turbo", 131_072, 16_384, _can("json_schema", "tools")),
            Model("openai/gpt-oss-120b", 131_072, 32_768, _can("json_schema", "reasoning", "tools")),
        ),
        fast="meta-llama/Llama-3.3-70B-Instruct-Turbo",
        strong="openai/gpt-oss-120b",
    ),
    # It goes on from its own message word for word: tests/local/test_text.py, and docs/faults.md for the measurement.
    Row(
        name="local",
        label="Embedded demo model",
        sdk="openai",
        base_url_var="LOCAL_TEXT_BASE_URL",
        # No tools: its chat template has no place for them, so llama.cpp drops them, even where one is required.
        models=(Model("smollm2-135m-instruct", 2_048, 512, _can("json_schema"), continues_prefix=True),),
        fast="smollm2-135m-instruct",
        strong="smollm2-135m-instruct",
        demo=True,
        keep_alive=False,
    ),
)


@dataclass(frozen=True, slots=True)
class EmbeddingRow:
    """A vendor of embeddings that speaks OpenAI's protocol; what its fields have in common with Row means the same.

    Models of the same id and the same dimensions stand in for one another, others never: see lib/router/embeddings.py.
    The first model is the one for callers who name none.
    """

    name: str
    label: str
    base_url_var: str
    models: tuple[EmbeddingModel, ...]
    key_var: str | None = None
    base_url: str | None = None
    demo: bool = False
    keep_alive: bool = True


EMBEDDING_ROWS: tuple[EmbeddingRow, ...] = (
    EmbeddingRow(
        name="deepinfra",
        label="DeepInfra",
        key_var="DEEPINFRA_API_KEY",
        base_url_var="DEEPINFRA_BASE_URL",
        base_url="https://api.deepinfra.com/v1/openai",
        models=(
            EmbeddingModel("BAAI/bge-m3", 8_192, 1_024, max_inputs=1_024),
            EmbeddingModel("Qwen/Qwen3-Embedding-0.6B", 32_768, 1_024, max_inputs=1_024, min_dimensions=32),
        ),
    ),
    # The chat model's own states, averaged: it was never trained for this. 576 is the hidden size of its weights.
    EmbeddingRow(
        name="local",
        label="Embedded vectors, demo quality",
        base_url_var="LOCAL_EMBEDDINGS_BASE_URL",
        models=(EmbeddingModel("smollm2-135m-mean", 512, 576, max_inputs=32),),
        demo=True,
        keep_alive=False,
    ),
)


@dataclass(frozen=True, slots=True)
class SpeechRow:
    """A vendor of speech that speaks ElevenLabs' protocol; what its fields have in common with Row means the same.

    The first model is the one for callers who name none, and `voice` the voice. `codecs` are what formats may begin
    with; `isolates`: it can take the noise out of a recording.
    """

    name: str
    label: str
    base_url_var: str
    models: tuple[SpeechModel, ...]
    voice: str
    key_var: str | None = None
    base_url: str | None = None
    demo: bool = False
    keep_alive: bool = True
    codecs: tuple[str, ...] = ("mp3", "wav", "opus")
    isolates: bool = True


# Longest texts: https://help.elevenlabs.io/hc/en-us/articles/19572237925521
SPEECH_ROWS: tuple[SpeechRow, ...] = (
    SpeechRow(
        name="elevenlabs",
        label="ElevenLabs",
        key_var="ELEVENLABS_API_KEY",
        base_url_var="ELEVENLABS_BASE_URL",
        base_url="https://api.elevenlabs.io",
        models=(
            SpeechModel("eleven_flash_v2_5", 40_000),
            SpeechModel("eleven_multilingual_v2", 10_000, takes_language=False),
            SpeechModel("eleven_v3", 5_000),
        ),
        voice="21m00Tcm4TlvDq8ikWAM",
    ),
    SpeechRow(
        name="local",
        label="Embedded voice, English only",
        base_url_var="LOCAL_VOICE_BASE_URL",
        models=(SpeechModel("piper-joe-medium", 5_000, languages=frozenset({"en"})),),
        voice="joe",
        demo=True,
        keep_alive=False,
        codecs=("mp3", "wav"),
    ),
)


@dataclass(frozen=True, slots=True)
class ImageRow:
    """A vendor of pictures that speaks fal's queue protocol; what its fields have in common with Row means the same.

    The first model is the one for callers who name none. `hosts` are the domains that its pictures may lie on, by
    https; beside them the base URL's own origin may.
    """

    name: str
    label: str
    base_url_var: str
    models: tuple[ImageModel, ...]
    key_var: str | None = None
    base_url: str | None = None
    hosts: tuple[str, ...] = ()
    demo: bool = False
    keep_alive: bool = True


IMAGE_ROWS: tuple[ImageRow, ...] = (
    ImageRow(
        name="fal",
        label="fal",
        key_var="FAL_KEY",
        base_url_var="FAL_BASE_URL",
        base_url="https://queue.fal.run",
        models=(
            ImageModel("fal-ai/flux/schnell", arguments=(("num_inference_steps", 4),)),
            ImageModel("fal-ai/flux/dev", arguments=(("num_inference_steps", 28),)),
        ),
        hosts=("fal.media", "fal.ai", "fal.run"),
    ),
    ImageRow(
        name="local",
        label="Embedded pictures, drawn by rule",
        base_url_var="LOCAL_IMAGES_BASE_URL",
        # The path is the model's name to the engine, which takes any.
        models=(ImageModel("local/drawing"),),
        demo=True,
        keep_alive=False,
    ),
)

AnyRow: TypeAlias = Row | EmbeddingRow | SpeechRow | ImageRow
