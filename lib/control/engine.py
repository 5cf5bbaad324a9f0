"""Statsig's own engine, `statsig-python-core`, over specs that we give it: it neither calls out nor writes anywhere."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import orjson

from lib.control.specs import Json, to_v2
from lib.errors import ServiceFailed

User: TypeAlias = Any
"""The engine's own kind of user."""
INITIALIZE_S = 5.0
PROBE_ID = "00000000-0000-0000-0000-000000000000"
CLIENT_FIELDS = ("has_updates", "time", "hash_used", "user", "feature_gates", "dynamic_configs", "layer_configs")
NO_TRAITS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Value:
    """What a config says for a user: by which rule, whether that let them pass, and into which group if it has any."""

    value: Mapping[str, object]
    rule: str
    is_experiment: bool
    group: str | None
    passed: bool
    version: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says for a user, by which of its rules."""

    passed: bool
    rule: str
    version: int | None
    share: float | None
    """Of those whom the rule is about, how many it lets pass, from 0 to 1; None where no rule decided."""


class Engine:
    """One version of the specs, ready to be asked; it never changes. Making one takes 10 to 100 ms: use a thread."""

    def __init__(self, specs: Mapping[str, object], version: str, *, tier: str) -> None:
        """`tier` is the environment that rules may ask for. Raises ServiceFailed for specs it can make nothing of."""
        # A native module whose annotations are incomplete; 10 MB, so loaded with the first specs.
        sdk: Any = importlib.import_module("statsig_python_core")
        document = to_v2(specs)
        text = orjson.dumps(document).decode()

        class Given(sdk.DataStore):
            """Hands the engine its specs."""

            def get(self, key: str) -> object:
                del key
                return sdk.DataStoreResponse(result=text, time=None)

        self.version = version
        self._sdk = sdk
        self._statsig: Any = sdk.Statsig(
            "secret-unused",
            sdk.StatsigOptions(
                data_store=Given(),
                environment=tier,
                disable_network=True,
                disable_all_logging=True,
                disable_country_lookup=True,
                disable_disk_access=True,
                output_log_level="none",
            ),
        )
        self._statsig.initialize().wait(INITIALIZE_S)
        if not self._statsig.get_initialize_details().is_config_spec_ready:
            raise ServiceFailed("specs_unreadable")
        self._experiments: frozenset[str] = frozenset(self._statsig.get_experiment_list())
        self.gates: frozenset[str] = frozenset(self._statsig.get_feature_gate_list())
        self._configs = cast("Mapping[str, Json]", document.get("dynamic_configs") or {})
        self._all_gates = cast("Mapping[str, Json]", document.get("feature_gates") or {})
        self._groups: dict[str, dict[str, str]] = {}
        # Exposures are ours to report: with its network off the engine sends nothing.
        self._config_options = sdk.ExperimentEvaluationOptions(disable_exposure_logging=True)
        self._gate_options = sdk.FeatureGateEvaluationOptions(disable_exposure_logging=True)

    def user(self, user_id: str, traits: Mapping[str, str] = NO_TRAITS, stable_id: str | None = None) -> User:
        """Whom to decide for. Experiments by user and by device fall together where no device's id is given."""
        return self._sdk.StatsigUser(user_id, custom_ids={"stableID": stable_id or user_id}, custom=dict(traits))

    def config(self, user: User, name: str) -> Value | None:
        """An experiment's or dynamic config's value; None where there is none of that name, or none we can read."""
        found = self._statsig.get_experiment(user, name, self._config_options)
        if not _is_known(found.details.reason):
            return None
        is_experiment = name in self._experiments
        if is_experiment:
            group = self._groups_of(name).get(found.rule_id)
            passed = group is not None
        else:
            group, passed = None, self._returns(name, found.rule_id) == found.value
        return Value(found.value, found.rule_id, is_experiment, group, passed, found.details.version)

    def gate(self, user: User, name: str) -> Verdict | None:
        """Whether a user passes; None where there is no such gate, or none we can read."""
        found = self._statsig.get_feature_gate(user, name, self._gate_options)
        if not _is_known(found.details.reason):
            return None
        percent = self._rule(self._all_gates[name], found.rule_id).get("passPercentage")
        share = percent / 100 if isinstance(percent, int | float) else None
        return Verdict(found.value, found.rule_id, found.details.version, share)

    def unreadable(self, config: str, gates: tuple[str, ...]) -> list[str]:
        """Which of these are in the specs, but in a form that this engine does not know."""
        user = self.user(PROBE_ID)
        names = [config] if config in self._configs and self.config(user, config) is None else []
        return names + [name for name in gates if name in self._all_gates and self.gate(user, name) is None]

    def client_values(self, user: User) -> Json:
        """Everything decided for this user, as Statsig's browser client starts from: values, and no rule behind them.

        Names are hashed (djb2). Which segments and gates a value came from is left out.
        """
        whole: Json = orjson.loads(self._statsig.get_client_initialize_response(user, hash="djb2"))
        values = {field: whole[field] for field in CLIENT_FIELDS}
        for kind in ("feature_gates", "dynamic_configs", "layer_configs"):
            for entry in cast("dict[str, dict[str, Any]]", values[kind]).values():
                for field in entry.keys() & {"secondary_exposures", "undelegated_secondary_exposures"}:
                    entry[field] = []
        return values

    def _groups_of(self, name: str) -> dict[str, str]:
        if name not in self._groups:
            groups = self._statsig.get_experiment_groups(name).groups
            self._groups[name] = {group.rule_id: group.group_name for group in groups}
        return self._groups[name]

    def _returns(self, name: str, rule_id: str) -> object:
        """What this rule of a dynamic config gives those who pass it."""
        return self._rule(self._configs[name], rule_id).get("returnValue")

    @staticmethod
    def _rule(spec: Json, rule_id: str) -> Json:
        rules = cast("list[Json]", spec.get("rules") or [])
        nothing: Json = {}
        return next((rule for rule in rules if rule.get("id") == rule_id), nothing)


def _is_known(reason: str) -> bool:
    return reason.endswith(":Recognized")
