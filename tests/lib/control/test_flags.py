"""The provider flag, read from its setting."""

from __future__ import annotations

import asyncio

import pytest

from lib.control.flags import Flags
from lib.router.plan import ProviderFlag


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        (None, ProviderFlag()),
        ("", ProviderFlag()),
        ("groq", ProviderFlag(arm="groq", provider="groq")),
        ("groq/", ProviderFlag(arm="groq", provider="groq")),
        ("groq/openai/gpt-oss-120b", ProviderFlag(arm="groq", provider="groq", model="openai/gpt-oss-120b")),
    ],
)
def test_flag(setting: str | None, flag: ProviderFlag) -> None:
    """A provider, or a provider and one of its models, whose name may hold slashes; the same for every caller."""
    flags = Flags(setting)

    async def ask() -> list[ProviderFlag]:
        return [await flags.provider(caller) for caller in ("caller-1", "caller-2")]

    assert asyncio.run(ask()) == [flag, flag]
