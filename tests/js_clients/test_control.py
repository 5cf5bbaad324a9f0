"""Vercel's and Statsig's clients: the Edge Config of `make run`, and flags to start from."""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

import pytest

from local.edge_config import FOLDER, Files
from tests.conftest import ACCESS, KEY_HEADER, Serve
from tests.js_clients.node import Node


def test_edge_config_of_this_machine(node: Node, local_store: str) -> None:
    """Vercel's own client reads the Edge Config of `make run` as it reads the genuine one."""
    connection = f"{local_store}/ecfg_local?token=local"
    items = Files(FOLDER).items()
    seen = node.ask("edge_config", {"connection": connection, "key": "statsig-local"})
    item = items["statsig-local"]
    assert (seen["id"], seen["all"], seen["some"]) == ("ecfg_local", items, {"statsig-local": item})
    assert [seen["one"], seen["again"], seen["consistent"], seen["missing"]] == [item, item, item, None]
    assert (seen["has"], len(seen["digest"])) == ([True, False], 64)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [("ecfg_local?token=wrong", "Unauthorized"), ("nowhere/ecfg_x?id=x&token=local", "Edge Config not found")],
)
def test_edge_config_that_is_none(node: Node, local_store: str, path: str, complaint: str) -> None:
    """A wrong token and a missing store are told apart."""
    assert complaint in node.ask("no_edge_config", {"connection": f"{local_store}/{path}"})


@pytest.mark.parametrize("stable_id", [None, "device-1"])
def test_statsig_client_starts_from_our_flags(
    node: Node, serve: Serve, local_store: str, stable_id: str | None
) -> None:
    """Statsig's browser client starts from /api/flags, knows what the server decided, and finds nothing amiss."""
    environ = {**ACCESS, "EDGE_CONFIG": f"{local_store}/ecfg_local?token=local"}
    url = f"{serve(environ)}/api/flags" + (f"?stableID={stable_id}" if stable_id else "")
    flag = {"experiment": "feature_ai_provider", "gate": "groq_r1_v_production"}
    seen = node.ask("statsig", {"url": url, "headers": KEY_HEADER, **flag})
    experiment, gate = seen["experiment"], seen["gate"]
    assert (experiment["reason"], gate["reason"]) == ("Bootstrap:Recognized", "Bootstrap:Recognized")
    assert seen["unknown"] == "Bootstrap:Unrecognized"
    assert experiment["value"]["provider"] == "local"
    assert experiment["rule"] == f"rule_{experiment['group']}"
    assert (gate["rule"], gate["value"] in {True, False}) == ("rule_rollout", True)
    assert seen["stableID"] == (stable_id or str(uuid5(NAMESPACE_URL, "api-key:web")))
