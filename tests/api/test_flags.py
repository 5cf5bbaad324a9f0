"""GET /api/flags: what a page may know of the flags, and no more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, cast

import httpx
import pytest

from lib.control.parameters import Parameters
from tests.conftest import ACCESS, KEY_HEADER, ROOT, Serve
from tests.fakes.loop import LoopThread
from tests.fakes.web import Web, told

V1: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "statsig" / "specs_v1.json").read_text())


def djb2(name: str) -> str:
    """Statsig's hash of names: 32 bits, unsigned."""
    value = 0
    for character in name:
        value = (value * 31 + ord(character)) & 0xFFFFFFFF
    return str(value)


@pytest.fixture
def environ(loop: LoopThread) -> Iterator[dict[str, str]]:
    """The environment in which the flags are the vectors'."""
    store = Web(loop, lambda _: told({"statsig-x": V1, "secret_item": "canary-item"}))
    yield {**ACCESS, "EDGE_CONFIG": f"{store.url}/ecfg_x?token=canary-token", "GROQ_API_KEY": "canary-key"}
    store.close()


def test_values(serve: Serve, environ: dict[str, str]) -> None:
    """A caller gets its values, by hashed names, never from a cache, and in the shape of the browser's client."""
    answer = httpx.get(f"{serve(environ)}/api/flags", headers=KEY_HEADER)
    assert answer.headers["cache-control"] == "private, no-store"
    body = answer.json()
    assert (body["has_updates"], body["hash_used"], body["time"]) == (True, "djb2", V1["time"])
    assert body["user"]["customIDs"] == {"stableID": body["user"]["userID"]}
    experiment = body["dynamic_configs"][djb2("feature_ai_provider")]
    assert experiment["value"]["provider"] in {"groq", "xai", "deepinfra"}
    assert experiment["rule_id"] == f"rule_{experiment['group_name']}"
    assert body["feature_gates"].keys() == {djb2("groq_r1_v_production")}
    assert body["parameters"] == Parameters().public()


def test_same_arm_as_the_answers(serve: Serve, environ: dict[str, str]) -> None:
    """The page is told the arm that the same guest's requests are in; a guest stays one from call to call."""
    with httpx.Client(base_url=serve(environ)) as guest:
        first, second = guest.get("/api/flags").json(), guest.get("/api/flags").json()
    assert first == second
    assert "guest" in dict(guest.cookies)


def test_stable_id(serve: Serve, environ: dict[str, str]) -> None:
    """The browser's own id for its device is answered where the page names it; one that can't be one is refused."""
    url = f"{serve(environ)}/api/flags"
    body = httpx.get(url, params={"stableID": "0c5a-device.1_x"}).json()
    assert body["user"]["customIDs"]["stableID"] == "0c5a-device.1_x"
    for wrong in ("", "x" * 129, "<script>", "a b"):
        refused = httpx.get(url, params={"stableID": wrong})
        assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "stableID")


def keys(value: Any) -> set[str]:
    """All names of fields, however deep."""
    own: set[str] = set(cast("dict[str, Any]", value)) if isinstance(value, dict) else set()
    below = cast(
        "Iterable[Any]", value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    )
    return own.union(*map(keys, below))


def test_nothing_behind_the_values(serve: Serve, environ: dict[str, str]) -> None:
    """No rule, condition, salt, segment, percentage or secret is shown, nor the name of a flag."""
    url = serve(environ)
    for headers in ({}, KEY_HEADER):
        answer = httpx.get(f"{url}/api/flags", headers=headers)
        shown = answer.text + str(answer.headers)
        for secret in ("canary", "b1f5a6e2", "exp-0003", "seg_paid", "seg-0002", "example.com", "feature_ai_provider"):
            assert secret not in shown
        unwanted = {"rules", "conditions", "salt", "passPercentage", "targetValue", "defaultValue", "sdkInfo"}
        assert keys(answer.json()) & unwanted == set()
        evaluated = [*answer.json()["dynamic_configs"].values(), *answer.json()["layer_configs"].values()]
        assert [entry["secondary_exposures"] for entry in evaluated] == [[]] * 3
        assert [entry.get("undelegated_secondary_exposures", []) for entry in evaluated] == [[]] * 3


def test_without_flags(serve: Serve) -> None:
    """Where there are no flags, a page starts without values, and not with an error."""
    body = httpx.get(f"{serve(ACCESS)}/api/flags").json()
    assert body.pop("user")["userID"]
    assert body == {
        "has_updates": True,
        "time": 0,
        "hash_used": "djb2",
        "feature_gates": {},
        "dynamic_configs": {},
        "layer_configs": {},
        "parameters": Parameters().public(),
    }


def test_who_may_ask(serve: Serve) -> None:
    """Nobody is answered whom the product would not answer otherwise."""
    assert httpx.get(f"{serve({})}/api/flags").status_code == 401
    assert httpx.post(f"{serve(ACCESS)}/api/flags").status_code == 405
