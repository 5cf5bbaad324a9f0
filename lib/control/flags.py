"""The flag `feature_ai_provider`: which provider answers this caller first."""

from __future__ import annotations

from lib.router.plan import ProviderFlag


class Flags:
    """Reads the flag from a setting; the caller's id is what an experiment will be decided by."""

    def __init__(self, provider_setting: str | None) -> None:
        """`provider_setting` is a provider's name or `provider/model`; None leaves the choice to the catalogue."""
        provider, _, model = (provider_setting or "").partition("/")
        self._provider_flag = ProviderFlag(arm=provider or None, provider=provider or None, model=model or None)

    async def provider(self, caller_id: str) -> ProviderFlag:
        """The flag's value for this caller."""
        del caller_id
        return self._provider_flag
