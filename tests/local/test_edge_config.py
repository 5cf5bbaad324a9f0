"""The Edge Config on this machine: files behind the genuine protocol, and the route that edits them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from lib.app import App
from lib.control.parameters import Parameters
from lib.settings import from_environ
from local.edge_config import FOLDER, Files, connection_string, endpoints
from local.server import Site
from tests.conftest import ACCESS, ROOT, served_site
from tests.fakes.loop import LoopThread

BEARER = {"authorization": "Bearer local"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two items."""
    (tmp_path / "ai_config.json").write_text('{"temperature": 0.5}')
    (tmp_path / "statsig-local.json").write_text('{"feature_gates": []}')
    return tmp_path


@pytest.fixture
def url(folder: Path, loop: LoopThread) -> Iterator[str]:
    """The site with the store beside it."""
    app = App(from_environ(ACCESS))
    with ExitStack() as running:
        yield running.enter_context(served_site(Site(ROOT, app, endpoints(Files(folder))), loop))


def get(url: str, path: str, **headers: str) -> httpx.Response:
    """Read from the store."""
    return httpx.get(f"{url}/ecfg_local/{path}", headers={**BEARER, **headers})


def test_protocol(url: str) -> None:
    """Items, one item, some items and the digest are read as at edge-config.vercel.com."""
    items = get(url, "items?version=1")
    assert items.json() == {"ai_config": {"temperature": 0.5}, "statsig-local": {"feature_gates": []}}
    assert get(url, "item/ai_config?version=1").json() == {"temperature": 0.5}
    assert get(url, "items?version=1&key=ai_config&key=nothing").json() == {"ai_config": {"temperature": 0.5}}
    assert get(url, "digest?version=1").json() == items.headers["x-edge-config-digest"]
    assert httpx.head(f"{url}/ecfg_local/item/ai_config", headers=BEARER).status_code == 200
    missing = get(url, "item/nothing?version=1")
    assert (missing.status_code, "x-edge-config-digest" in missing.headers) == (404, True)
    unknown = get(url, "secrets")
    assert (unknown.status_code, "x-edge-config-digest" in unknown.headers) == (404, False)


def test_unchanged(url: str) -> None:
    """Who has the newest items gets 304."""
    etag = get(url, "items").headers["etag"]
    again = get(url, "items", **{"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer other"}, {"authorization": "Basic local"}])
def test_token(url: str, headers: dict[str, str]) -> None:
    """Nothing is read without the token, which may also stand in the query."""
    assert httpx.get(f"{url}/ecfg_local/items", headers=headers).status_code == 401
    assert httpx.get(f"{url}/ecfg_local/items?token=other", headers=headers).status_code == 401
    assert httpx.get(f"{url}/ecfg_local/items?token=local").status_code == 200


def test_connection_string() -> None:
    """The connection string leads to the store, by the settings' own reading of it."""
    (store,) = from_environ({"EDGE_CONFIG": connection_string(8000)}).stores
    assert (store.id, store.url, store.token) == ("ecfg_local", "http://127.0.0.1:8000/ecfg_local", "local")


def test_edits_are_followed(folder: Path) -> None:
    """A file that is edited, added or removed is so at the next read, also where its time stays the same."""
    files = Files(folder)
    assert files.items()["ai_config"] == {"temperature": 0.5}
    file = folder / "ai_config.json"
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_text('{"temperature": 0.75}')
    os.utime(file, ns=times)
    assert files.items()["ai_config"] == {"temperature": 0.75}
    (folder / "new.json").write_text("[1]")
    file.unlink()
    assert files.items() == {"new": [1], "statsig-local": {"feature_gates": []}}


def test_half_written_file(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is not JSON leaves its item as it was, and is told of once; names that no item can have are none."""
    files = Files(folder)
    files.items()
    (folder / "ai_config.json").write_text('{"temperature": ')
    (folder / "no key.json").write_text("1")
    assert [files.items() for _ in range(3)][-1] == {
        "ai_config": {"temperature": 0.5},
        "statsig-local": {"feature_gates": []},
    }
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["ai_config.json is not JSON (line 1, column 17): not followed"]


def put(url: str, key: str, content: bytes, **headers: str) -> int:
    """Replace an item by way of the panel; the status."""
    given = {"content-type": "application/json", **headers}
    return httpx.put(f"{url}/local/items/{key}", content=content, headers=given).status_code


def test_panel(url: str, folder: Path) -> None:
    """The panel reads all items or one, and replaces one as a whole; readers of the store have it at once."""
    assert set(httpx.get(f"{url}/local/items").json()) == {"ai_config", "statsig-local"}
    assert put(url, "ai_config", b'{"temperature": 1}', origin=url) == 204
    assert httpx.get(f"{url}/local/items/ai_config").json() == {"temperature": 1}
    assert get(url, "item/ai_config").json() == {"temperature": 1}
    assert json.loads((folder / "ai_config.json").read_text()) == {"temperature": 1}
    assert sorted(file.name for file in folder.iterdir()) == ["ai_config.json", "statsig-local.json"]


@pytest.mark.parametrize(
    ("key", "content", "headers", "status"),
    [
        ("ai_config", b"{", {}, 400),
        ("ai_config", b"[1]", {}, 422),
        ("ai_config", b"null", {}, 422),
        ("ai_config", b"{}", {"content-type": "text/plain"}, 415),
        ("ai_config", b"{}", {"origin": "https://evil.example"}, 403),
        ("ai_config", b"{}", {"origin": "null"}, 403),
        ("nothing", b"{}", {}, 404),
        ("..%2f..%2fvercel", b"{}", {}, 404),
        ("ai_config/x", b"{}", {}, 404),
        ("", b"{}", {}, 404),
    ],
)
def test_refused_edit(url: str, folder: Path, key: str, content: bytes, headers: dict[str, str], status: int) -> None:
    """What is no JSON object, comes from another site's page or names no item changes no file."""
    before = {file.name: file.read_text() for file in folder.iterdir()}
    assert put(url, key, content, **headers) == status
    assert {file.name: file.read_text() for file in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"temperature": 2.1}, ["temperature"]),
        ({"temperature": "1", "hedge": "never", "top_p": 0.5}, ["temperature", "hedge"]),
        ({"max_tokens": 0, "img_style": "a\nb"}, ["max_tokens", "img_style"]),
        ({"temperature": None, "strange": "left alone", "max_tokens": 10.0}, []),
    ],
)
def test_unfit_parameters_are_refused_by_name(
    url: str, folder: Path, config: dict[str, object], named: list[str]
) -> None:
    """What requests would pass over is not written, and each complaint says what the value may be."""
    answer = httpx.put(f"{url}/local/items/ai_config", json=config)
    assert answer.status_code == (422 if named else 204)
    complaints: list[dict[str, str]] = answer.json()["errors"] if named else []
    assert [error["path"] for error in complaints] == named
    assert all(error["message"].startswith("must be: ") for error in complaints)
    assert json.loads((folder / "ai_config.json").read_text()) == ({"temperature": 0.5} if named else config)


SPECS: dict[str, Any] = json.loads((FOLDER / "statsig-local.json").read_text())


def edited(**changes: object) -> dict[str, Any]:
    """The shipped specs with another first gate."""
    first, *others = SPECS["feature_gates"]
    return {**SPECS, "feature_gates": [{**first, **changes}, *others]}


@pytest.mark.parametrize(
    ("specs", "path"),
    [
        ({}, "feature_gates"),
        ({"feature_gates": "on"}, "feature_gates"),
        (edited(rules=[1]), "feature_gates.0.rules.0"),
        (edited(rules=[{**SPECS["feature_gates"][0]["rules"][0], "passPercentage": "ten"}]), "feature_gates.{gate}"),
        (edited(salt=None), "feature_gates.{gate}"),
        ({**SPECS, "dynamic_configs": [{**SPECS["dynamic_configs"][0], "salt": None}]}, "dynamic_configs.{config}"),
        ({**SPECS, "feature_gates": {"a": 1}}, ""),
        (edited(defaultValue=True), None),
        ({"feature_gates": []}, None),
    ],
)
def test_specs_that_nobody_can_be_decided_by_are_refused(
    url: str, folder: Path, specs: dict[str, object], path: str | None
) -> None:
    """Statsig's engine would pass over them: they are not written, and the complaint says where the fault is."""
    names = {"gate": SPECS["feature_gates"][0]["name"], "config": SPECS["dynamic_configs"][0]["name"]}
    before = json.loads((folder / "statsig-local.json").read_text())
    answer = httpx.put(f"{url}/local/items/statsig-local", json=specs)
    if path is None:
        assert answer.status_code == 204, answer.text
    else:
        assert answer.status_code == 422
        assert [error["path"] for error in answer.json()["errors"]] == [path.format(**names)]
    assert json.loads((folder / "statsig-local.json").read_text()) == (specs if path is None else before)


def test_form(loop: LoopThread) -> None:
    """The form offers the public parameters, and the models of those vendors alone that a flag may name."""
    keys = {"GROQ_API_KEY": "key-of-groq-0123456789", "LOCAL_TEXT_BASE_URL": "http://127.0.0.1:9/v1"}
    app = App(from_environ({**ACCESS, **keys}))
    with served_site(Site(ROOT, app, endpoints(Files(FOLDER), app.assignable)), loop) as url:
        form = httpx.get(f"{url}/local/form").json()
    assert form["experiment"] == "feature_ai_provider"
    assert {each["provider"] for each in form["models"]} == {"groq"}
    by_name = {each["name"]: each for each in form["parameters"]}
    assert by_name.keys() == Parameters().public().keys()
    assert by_name["temperature"]["values"] == "number from 0 to 2"
    kinds = [by_name[name]["kind"] for name in ("temperature", "max_tokens", "voice_id")]
    assert kinds == ["number", "whole", "text"]
    assert by_name["max_tokens"]["default"] == 2048


def test_not_deployed(loop: LoopThread) -> None:
    """None of this is part of what is deployed."""
    with served_site(Site(ROOT, App(from_environ(ACCESS))), loop) as url:
        for path in ("/local/items", "/local/form", "/ecfg_local/items?token=local"):
            assert httpx.get(f"{url}{path}").status_code == 404


def test_shipped_items() -> None:
    """The items that are shipped are JSON objects, and small enough for the smallest store that Vercel sells."""
    items: dict[str, Any] = Files(FOLDER).items()
    assert "statsig-local" in items
    assert all(isinstance(value, dict) for value in items.values())
    assert len(json.dumps(items["statsig-local"], separators=(",", ":"))) < 8_192
