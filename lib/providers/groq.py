"""Text from Groq, through its own SDK."""

from __future__ import annotations

from lib.providers.base import ChatRequest, Model
from lib.providers.openai_compatible import OpenAICompatible


class Groq(OpenAICompatible):
    """Groq speaks OpenAI's protocol; its SDK has OpenAI's shape but no parameter for `stream_options`."""

    sdk = "groq"
    client = "AsyncGroq"

    def arguments(self, request: ChatRequest, model: Model) -> dict[str, object]:
        """What the SDK's `create` is given."""
        arguments = super().arguments(request, model)
        return arguments | {"extra_body": {"stream_options": arguments.pop("stream_options")}}
