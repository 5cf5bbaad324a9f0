"""The vendors' rows: each is whole, and a new one needs nothing besides itself."""

from __future__ import annotations

import httpx
import pytest

from lib.app import App
from lib.providers.base import ChatRequest, Model
from lib.providers.catalog import ROWS, Row
from lib.providers.chat import request_arguments
from lib.router.plan import ProviderFlag
from lib.settings import from_environ, variables
from tests.conftest import ACCESS, KEY_HEADER, MakeVendor, Serve, hosted_over
from tests.fakes.vendor import Vendor, failure, words

MADE_UP = Row(
    name="acme",
    label="Acme",
    sdk="openai",
    key_var="ACME_API_KEY",
    base_url_var="ACME_BASE_URL",
    base_url="https://api.acme.example/v1",
    models=(Model("acme-1", 8_192, 1_024),),
    fast="acme-1",
    strong="acme-1",
)
WITH_MADE_UP = (*ROWS, MADE_UP)
each_row = pytest.mark.parametrize("row", WITH_MADE_UP, ids=[row.name for row in WITH_MADE_UP])


@each_row
def test_fast_and_strong_are_offered(row: Row) -> None:
    """The models behind `fast` and `strong` are among the row's own."""
    assert row.model(row.fast) is not None
    assert row.model(row.strong) is not None


@each_row
def test_models(row: Row) -> None:
    """A row names each model once, with sizes that fit one another, and knows no other."""
    assert len({model.id for model in row.models}) == len(row.models)
    assert all(0 < model.max_output_tokens <= model.context_tokens for model in row.models)
    assert [row.model(model.id) for model in row.models] == list(row.models)
    assert row.model("no such model") is None


@each_row
def test_hosted_rows_have_a_key_and_an_address(row: Row) -> None:
    """What needs a key is spoken to over TLS; what needs none is on by its address alone."""
    if row.key_var is None:
        assert row.base_url is None
    else:
        assert row.base_url is not None
        assert row.base_url.startswith("https://")
        assert not row.base_url.endswith("/")


def test_thoughts_are_asked_for_apart() -> None:
    """A model whose vendor would put its thoughts into the text is asked not to with every request."""
    row = next(row for row in ROWS if row.name == "groq")
    asked = {
        model.id: request_arguments(ChatRequest(({"role": "user", "content": "Hi"},), 5), model, row)
        for model in row.models
    }
    assert [id_ for id_, arguments in asked.items() if arguments.get("reasoning_format") == "parsed"] == [
        "qwen/qwen3.8-27b"
    ]


def test_names_are_unique() -> None:
    """No two rows share a name, a key or an address variable, and no name looks like a path."""
    names = [row.name for row in WITH_MADE_UP]
    assert len(set(names)) == len(names)
    assert not any("/" in name or not name.isascii() or name != name.lower() for name in names)
    read = [variable.name for variable in variables(WITH_MADE_UP)]
    assert len(set(read)) == len(read)


@each_row
def test_every_row_has_its_adapter(row: Row) -> None:
    """A row that is on gets its adapter, by its name, and the same one each time."""
    environ = {row.base_url_var: "http://127.0.0.1:9/v1", **({row.key_var: "key"} if row.key_var else {})}
    app = App(from_environ(environ, WITH_MADE_UP), WITH_MADE_UP)
    provider = app.text_provider(row.name)
    assert provider.name == row.name
    assert app.text_provider(row.name) is provider


def test_made_up_vendor_in_the_settings() -> None:
    """A new row brings its variables, its part, and its place behind the flag."""
    assert {"ACME_API_KEY", "ACME_BASE_URL"} <= {variable.name for variable in variables(WITH_MADE_UP)}
    off = from_environ({}, WITH_MADE_UP)
    assert [part.needs for part in off.parts if part.name == "acme"] == [("ACME_API_KEY",)]
    on = from_environ({"ACME_API_KEY": "key", "FEATURE_AI_PROVIDER": "acme"}, WITH_MADE_UP)
    assert on.vendors["acme"].base_url == "https://api.acme.example/v1"
    assert (on.provider_flag, on.malformed) == ("acme", {})
    exposed = from_environ({"NEXT_PUBLIC_ACME_API_KEY": "key"}, WITH_MADE_UP)
    assert exposed.exposed == ("NEXT_PUBLIC_ACME_API_KEY",)
    assert "FEATURE_AI_PROVIDER" in from_environ({"FEATURE_AI_PROVIDER": "acme"}).malformed


def made_up_over(vendor: Vendor) -> dict[str, str]:
    """The environment in which the made-up vendor is this fake."""
    return {**ACCESS, "ACME_API_KEY": "key-of-acme-0123456789", "ACME_BASE_URL": f"{vendor.url}/v1"}


def test_made_up_vendor_answers(serve: Serve, vendor: Vendor) -> None:
    """A new row answers through the whole product; its cost is unknown until someone writes down a price."""
    vendor.script(words("Hello"))
    url = serve(made_up_over(vendor), WITH_MADE_UP)
    answer = httpx.post(f"{url}/api/generate", json={"prompt": "Hi", "stream": False}).json()
    assert (answer["provider"], answer["model"], answer["text"]) == ("acme", "acme-1", "Hello")
    assert answer["cost_usd"] is None
    assert vendor.requests[0].headers["authorization"] == "Bearer key-of-acme-0123456789"
    health = httpx.get(f"{url}/api/health").json()
    assert {"name": "acme", "label": "Acme", "on": True, "needs": ["ACME_API_KEY"]} in health["parts"]


def test_made_up_vendor_is_a_fallback_and_a_choice(serve: Serve, make_vendor: MakeVendor) -> None:
    """A new row takes over from the others, and can be asked for by name."""
    groq, acme = make_vendor(), make_vendor()
    url = serve({**hosted_over(groq=groq), **made_up_over(acme)}, WITH_MADE_UP)
    groq.script(failure(503))
    body: dict[str, object] = {"prompt": "Hi", "stream": False}
    assert httpx.post(f"{url}/api/generate", json=body).json()["provider"] == "acme"
    chosen = httpx.post(f"{url}/api/generate", json={**body, "provider": "acme"}, headers=KEY_HEADER).json()
    assert (chosen["provider"], len(groq.requests)) == ("acme", 1)


def test_vendor_without_a_default_address() -> None:
    """A row that needs a key and an address, with only one of them set, says that it is off for want of the other."""
    row = Row("acme", "Acme", "openai", "ACME_BASE_URL", MADE_UP.models, "acme-1", "acme-1", key_var="ACME_API_KEY")
    settings = from_environ({"ACME_API_KEY": "key"}, (row,))
    part = settings.parts[0]
    assert (part.name, part.on) == ("acme", False)
    assert "ACME_BASE_URL" in part.needs


def test_flag_names_the_made_up_vendor(serve: Serve, make_vendor: MakeVendor) -> None:
    """The flag puts a new row first like any other."""
    groq, acme = make_vendor(), make_vendor()
    environ = {**hosted_over(groq=groq), **made_up_over(acme), "FEATURE_AI_PROVIDER": "acme"}
    body = httpx.post(f"{serve(environ, WITH_MADE_UP)}/api/generate", json={"prompt": "Hi", "stream": False}).json()
    assert body["flags"] == ProviderFlag(arm="acme", provider="acme").public()
    assert (body["provider"], groq.requests) == ("acme", [])
