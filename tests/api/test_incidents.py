"""What goes wrong while the product serves becomes incidents, and what the cron finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from lib.providers.base import Usage
from lib.telemetry.cost import own_price
from tests.api.conftest import over
from tests.api.test_deploy_webhook import OPERATOR, run_cron
from tests.conftest import ACCESS, KEY_HEADER, MakeVendor, Serve, hosted_over
from tests.fakes.github import GitHub
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Vendor, failure
from tests.fakes.web import Asked, Told, Web, told
from tests.incidents import eventually, later, rows
from tests.lib.control.test_flags import gate, specs
from tests.local.supabase.conftest import Project

ASK = {"prompt": "Hi", "stream": False}
GROQ = ["openai/gpt-oss-20b", "openai/gpt-oss-120b", "qwen/qwen3.8-27b"]
DEEPINFRA = ["meta-llama/Llama-3.3-70B-Instruct-Turbo", "openai/gpt-oss-120b"]


@pytest.fixture
def github(loop: LoopThread) -> Iterator[GitHub]:
    """A repository."""
    github = GitHub(loop)
    yield github
    github.close()
    assert github.violations == []


@pytest.fixture
def environ(supabase: Project, github: GitHub) -> dict[str, str]:
    """Rows and a repository."""
    return {**ACCESS, **over(supabase), **github.environ}


def ask(url: str, **more: object) -> httpx.Response:
    """A whole answer."""
    return httpx.post(f"{url}/api/generate", json={**ASK, **more}, headers=KEY_HEADER, timeout=60)


def titles(project: Project) -> list[str]:
    """Of the incidents."""
    return [row["title"] for row in rows(project)]


def test_a_vendor_rejects_the_key(
    serve: Serve, environ: dict[str, str], supabase: Project, make_vendor: MakeVendor, github: GitHub
) -> None:
    """Callers are answered by the next one; the issue says which vendor, and no key."""
    bad, good = make_vendor(), make_vendor()
    url = serve({**hosted_over(groq=bad, xai=good), **environ, "FEATURE_AI_PROVIDER": "groq"})
    key = "key-of-groq-0123456789"
    bad.script(failure(401, "invalid_api_key", f"Bad key {key}"))
    assert ask(url).json()["provider"] == "xai"
    eventually(lambda: len(github.issues) == 1)
    (issue,) = github.issues
    assert issue["title"] == "groq rejects our key"
    assert key not in issue["body"]
    assert rows(supabase)[0]["recovers"]["provider"] == "groq"


def test_a_model_is_gone(serve: Serve, environ: dict[str, str], supabase: Project, vendor: Vendor) -> None:
    """One of the catalogue's is an incident of its own, beside that nobody could answer."""
    url = serve({**hosted_over(groq=vendor), **environ})
    vendor.script(failure(404, "model_not_found", "gone"))
    assert ask(url, provider="groq", model="openai/gpt-oss-120b").status_code == 503
    eventually(lambda: "groq does not offer a model: openai/gpt-oss-120b" in titles(supabase))


def test_fault_13_nobody_can_answer(
    serve: Serve, environ: dict[str, str], supabase: Project, vendor: Vendor, github: GitHub
) -> None:
    """One incident for all failures of an outage: a row at once, an issue when it lasts for a minute."""
    url = serve({**hosted_over(groq=vendor), **environ})
    vendor.script(*[failure(500, "x", "x")] * 100)
    for _ in range(5):
        assert ask(url).status_code == 503
    eventually(lambda: titles(supabase) == ["/api/generate: no provider could answer text"])
    assert github.issues == []
    supabase.sql("update public.incidents set first_seen = first_seen - interval '2 minutes'")
    other = serve({**hosted_over(groq=vendor), **environ})
    assert ask(other).status_code == 503
    eventually(lambda: len(github.open) == 1)


def test_the_callers_own_fault_is_none(
    serve: Serve, environ: dict[str, str], supabase: Project, vendor: Vendor
) -> None:
    """What a vendor rejects about a request is no incident."""
    url = serve({**hosted_over(groq=vendor), **environ})
    vendor.script(failure(400, "invalid_request_error", "x"))
    assert ask(url).status_code >= 400
    assert ask(url).status_code == 200
    assert titles(supabase) == []


def test_the_budget_of_all_is_used_up(serve: Serve, environ: dict[str, str], supabase: Project, vendor: Vendor) -> None:
    """Of one caller it is that caller's business; of all, an incident that is over when nobody is refused any more."""
    supabase.sql("delete from public.limits")
    supabase.sql("insert into public.limits (scope, subject, microusd_per_day) values ('key', 'each', 0)")
    url = serve({**hosted_over(groq=vendor), **environ})
    assert ask(url).json()["code"] == "budget_exceeded"
    run_cron(url)
    assert titles(supabase) == []
    supabase.sql("update public.limits set scope = 'total', subject = 'all'")
    assert ask(url).json()["code"] == "budget_exceeded"
    run_cron(url)
    assert titles(supabase) == ["The budget of the day is used up: callers are refused"]
    later(supabase, 1801)
    run_cron(url)
    assert [row["state"] for row in rows(supabase)] == ["resolved"]


def listing(loop: LoopThread, entries: Callable[[], Any], status: int = 200) -> Web:
    """A vendor that lists its models."""

    def usual(asked: Asked) -> Told:
        assert asked.path in {"/openai/v1/models", "/v1/models", "/v1/language-models"}
        return told({"object": "list", "data": entries()}, status)

    return Web(loop, usual)


def models(*ids: str) -> list[dict[str, Any]]:
    """OpenAI's list."""
    return [{"id": id_, "object": "model", "created": 1, "owned_by": "x"} for id_ in ids]


def priced(model: str, factor: float = 1.0) -> dict[str, Any]:
    """One of DeepInfra's entries."""
    ours = {
        side: float(own_price("deepinfra", model, usage) or 0)
        for side, usage in (("input_tokens", Usage(1_000_000, 0)), ("output_tokens", Usage(0, 1_000_000)))
    }
    return {"id": model, "metadata": {"pricing": {side: price * factor for side, price in ours.items()}}}


def test_cron_asks_every_vendor(
    serve: Serve, environ: dict[str, str], supabase: Project, github: GitHub, loop: LoopThread
) -> None:
    """A model that is gone, a price that has changed, a key that is rejected; over when the list is right again."""
    gone = [True]
    groq = listing(loop, lambda: models(*GROQ[: 2 if gone[0] else 3]))
    deepinfra = listing(loop, lambda: [priced(model, 2.0 if gone[0] else 1.0) for model in DEEPINFRA])
    xai = listing(loop, list, 401)
    keys = {f"{name}_API_KEY": "key-0123456789" for name in ("GROQ", "DEEPINFRA", "XAI")}
    urls = {"GROQ_BASE_URL": groq.url, "DEEPINFRA_BASE_URL": f"{deepinfra.url}/v1", "XAI_BASE_URL": f"{xai.url}/v1"}
    url = serve({**environ, **keys, **urls})
    assert run_cron(url)["outcome"] == "ok"
    assert sorted(titles(supabase)) == [
        "deepinfra has another price than ours: meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "deepinfra has another price than ours: openai/gpt-oss-120b",
        "groq does not offer a model: qwen/qwen3.8-27b",
        "xai rejects our key",
    ]
    assert len(github.open) == 4
    gone[0] = False
    report = run_cron(url)["tasks"]["vendors"]["report"]
    assert report == {"groq": "ok", "xai": "credentials_rejected", "deepinfra": "ok"}
    assert [row["title"] for row in rows(supabase) if row["state"] == "open"] == ["xai rejects our key"]
    for web in (groq, deepinfra, xai):
        web.close()


def test_cron_while_all_vendors_are_down(serve: Serve, environ: dict[str, str], supabase: Project) -> None:
    """They are reported, and nothing else fails for it."""
    keys = {f"{name}_API_KEY": "key-0123456789" for name in ("GROQ", "DEEPINFRA", "XAI")}
    urls = {f"{name}_BASE_URL": "http://127.0.0.1:9" for name in ("GROQ", "DEEPINFRA", "XAI")}
    url = serve({**environ, **keys, **urls})
    answer = run_cron(url)
    assert answer["tasks"]["vendors"]["report"] == dict.fromkeys(("groq", "xai", "deepinfra"), "connection_failed")
    assert (answer["outcome"], titles(supabase)) == ("ok", [])
    deep = httpx.get(f"{url}/api/health?deep=1", headers=OPERATOR).json()["operations"]
    assert deep["cron"]["report"]["vendors"] == answer["tasks"]["vendors"]


def test_migration_drift(serve: Serve, environ: dict[str, str], supabase: Project, github: GitHub) -> None:
    """A database that lacks a migration of this code is an incident until it has it."""
    url = serve(environ)
    removed = supabase.sql(
        "delete from supabase_migrations.schema_migrations where version = '20261122200100' returning version"
    )
    run_cron(url)
    assert titles(supabase) == ["The database lacks migrations of this deployment"]
    assert removed[0][0] in github.issues[0]["body"]
    supabase.sql("insert into supabase_migrations.schema_migrations (version) values ('20261122200100')")
    run_cron(url)
    assert github.open == []


def switched(percentage: float) -> dict[str, Any]:
    """Specs whose kill switch of groq is on for this share of callers."""
    document = specs()
    document["feature_gates"].append(gate("kill_groq", percentage))
    return document | {"time": 1_700_000_000_000 + round(percentage)}


def test_a_kill_switch_that_stays_on(
    serve: Serve, environ: dict[str, str], supabase: Project, github: GitHub, loop: LoopThread
) -> None:
    """Noted at once, told of after an hour, over with the switch."""
    on = [True]
    store = Web(loop, lambda _: told({"statsig-x": switched(100 if on[0] else 0)}, x_edge_config_digest=str(on[0])))
    keys = {"GROQ_API_KEY": "key-0123456789", "GROQ_BASE_URL": "http://127.0.0.1:9"}
    url = serve({**environ, **keys, "EDGE_CONFIG": f"{store.url}/e?token=t", "EDGE_CONFIG_FRESHNESS": "1"})
    run_cron(url)
    eventually(lambda: titles(supabase) == ["The kill switch of groq is still on"])
    assert github.issues == []
    supabase.sql("update public.incidents set first_seen = first_seen - interval '2 hours'")
    other = serve({**environ, **keys, "EDGE_CONFIG": f"{store.url}/e?token=t", "EDGE_CONFIG_FRESHNESS": "1"})
    run_cron(other)
    eventually(lambda: len(github.open) == 1)
    on[0] = False
    time.sleep(1.1)  # the freshness of what was read
    run_cron(other)
    eventually(lambda: github.open == [])
    store.close()
