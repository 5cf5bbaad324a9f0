"""Limits, stops, idempotency and rows over running instances and one real database."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.api.conftest import StartInstance, over
from tests.conftest import KEY_HEADER, Serve, hosted_over
from tests.fakes.vendor import Gate, Vendor, words
from tests.local.supabase.conftest import Project, token, uid

BUDGET = 3500
PAUSE = threading.Event()
ASK = {"prompt": "Hi", "stream": False}


def ask(url: str, **headers: str) -> httpx.Response:
    """One whole answer for the holder of a key."""
    return httpx.post(f"{url}/api/generate", json=ASK, headers={**KEY_HEADER, **headers}, timeout=60)


def counters(project: Project) -> dict[str, tuple[Any, ...]]:
    """Requests, money held and money spent of all keys together and of everyone."""
    rows = project.sql(
        "select scope, requests, reserved_microusd, spent_microusd from public.usage_counters where subject = 'all'"
    )
    return {scope: tuple(rest) for scope, *rest in rows}


def wait_until(condition: Callable[[], bool]) -> bool:
    """Look every 20 ms, for half a minute at most."""
    return any(condition() or PAUSE.wait(0.02) for _ in range(1500))


def settled(project: Project, count: int) -> bool:
    """Whether that many reservations are settled and none is held."""
    return wait_until(
        lambda: dict(project.sql("select state, count(*) from public.reservations group by 1")) == {"settled": count}
    )


def test_an_answer_is_paid_for_and_recorded(serve: Serve, supabase: Project, vendor: Vendor) -> None:
    """What is held is settled for what it cost, and the call is a row; the answer says what is left."""
    url = serve({**hosted_over(groq=vendor), **over(supabase)})
    answer = ask(url)
    assert answer.status_code == 200, answer.text
    assert (answer.headers["x-ratelimit-limit"], answer.headers["x-ratelimit-remaining"]) == ("600", "599")
    assert 1 <= int(answer.headers["x-ratelimit-reset"]) <= 60
    assert settled(supabase, 1)
    spent = round(answer.json()["cost_usd"] * 1_000_000)
    assert counters(supabase) == {"key": (1, 0, spent), "total": (1, 0, spent)}
    ((held,),) = supabase.sql("select reserved_microusd from public.reservations")
    assert held > spent
    rows = supabase.sql("select request_id::text, provider, outcome, cost_microusd from public.inference_events")
    assert rows == [(answer.json()["id"], "groq", "ok", spent)]
    told = httpx.get(f"{url}/api/usage", headers=KEY_HEADER).json()
    assert told["today"] == {"spent_usd": spent / 1e6, "reserved_usd": 0}
    assert told["requests"]["remaining"] == 599
    supabase.sql("update public.limits set requests_per_minute = null, microusd_per_day = null where scope = 'key'")
    told = httpx.get(f"{url}/api/usage", headers=KEY_HEADER).json()
    assert (told["requests"]["limit"], told["requests"]["remaining"]) == (None, None)
    assert (told["budget"]["limit_usd"], told["budget"]["remaining_usd"]) == (None, None)


def test_fault_47_denial_of_wallet(start_instance: StartInstance, supabase: Project, vendor: Vendor) -> None:
    """Forty at once on two instances: no more are let through than the budget holds, and the rest hear so unpaid."""
    environ = {**hosted_over(groq=vendor), **over(supabase)}
    supabase.sql("update public.limits set microusd_per_day = %s where (scope, subject) = ('key', 'each')", BUDGET)
    gate = Gate()
    vendor.script(*[words(gate, "Hello")] * 40)
    one, two = start_instance(environ), start_instance(environ)
    with ThreadPoolExecutor(40) as pool:
        answers = [pool.submit(ask, (one, two)[number % 2].url) for number in range(40)]
        wait_until(lambda: sum(each.done() for each in answers) + len(vendor.requests) == 40)
        gate.open()
        statuses = [each.result().status_code for each in answers]
    ((most,),) = supabase.sql("select max(reserved_microusd) from public.reservations")
    allowed = BUDGET // most
    assert allowed > 1
    assert statuses.count(200) == len(vendor.requests) == allowed
    limited = [each.result() for each in answers if each.result().status_code == 429]
    assert len(limited) == 40 - allowed
    assert {each.json()["code"] for each in limited} == {"budget_exceeded"}
    assert all(each.headers["retry-after"] and each.headers["x-ratelimit-limit"] for each in limited)
    assert settled(supabase, allowed)
    assert counters(supabase)["key"][1] == 0
    assert counters(supabase)["key"][2] <= BUDGET


def test_too_many_in_a_minute(serve: Serve, supabase: Project, vendor: Vendor) -> None:
    """Beyond the limit of a minute there is 429, with when to come back, and no call."""
    supabase.sql("update public.limits set requests_per_minute = 0 where scope = 'key' and subject = 'each'")
    refused = ask(serve({**hosted_over(groq=vendor), **over(supabase)}))
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("0", "0")
    assert (vendor.requests, supabase.sql("select * from public.reservations")) == ([], [])


def test_nothing_leaks(serve: Serve, supabase: Project, vendor: Vendor) -> None:
    """Whoever is refused after the money was held, or leaves, holds nothing any more."""
    url = serve({**hosted_over(groq=vendor), **over(supabase)})
    bad = {**ASK, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nope"}}}}
    assert httpx.post(f"{url}/api/generate", json=bad, headers=KEY_HEADER).status_code == 422
    vendor.script(words("first ", Gate(), "never"))
    with httpx.stream("POST", f"{url}/api/generate", json={"prompt": "Hi"}, headers=KEY_HEADER, timeout=30) as answer:
        next(answer.iter_lines())
    assert settled(supabase, 2)
    assert counters(supabase)["key"][1] == 0


def test_stop_from_another_instance(start_instance: StartInstance, supabase: Project, vendor: Vendor) -> None:
    """The other instance ends the stream as stopped; nobody else may, and the account is complete."""
    environ = {**hosted_over(groq=vendor), **over(supabase)}
    one, two = start_instance(environ), start_instance(environ)
    vendor.script(words("first ", Gate(), "never"))
    with httpx.stream(
        "POST", f"{one.url}/api/generate", json={"prompt": "Hi"}, headers=KEY_HEADER, timeout=30
    ) as answer:
        request_id = answer.headers["x-request-id"]
        lines = answer.iter_lines()
        while "text-delta" not in next(lines):
            pass
        assert httpx.delete(f"{two.url}/api/generate/{request_id}").status_code == 404
        stopping = httpx.delete(f"{two.url}/api/generate/{request_id}", headers=KEY_HEADER)
        assert (stopping.status_code, stopping.json()["status"]) == (202, "stopping")
        parts = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert parts[-1] == {"type": "abort"}
    assert parts[-2]["messageMetadata"]["stopped"] is True
    assert vendor.requests[0].hung_up.wait(5)
    assert settled(supabase, 1)
    assert supabase.sql("select outcome from public.inference_events") == [("cancelled",)]
    again = httpx.delete(f"{two.url}/api/generate/{request_id}", headers=KEY_HEADER)
    assert (again.status_code, again.json()["status"]) == (200, "ended")


def test_stop_without_a_database(serve: Serve, vendor: Vendor) -> None:
    """In the same process it simply works; what is not there can't be found elsewhere, and the variables are named."""
    url = serve(hosted_over(groq=vendor))
    vendor.script(words("first ", Gate(), "never"))
    with httpx.stream("POST", f"{url}/api/generate", json={"prompt": "Hi"}, headers=KEY_HEADER, timeout=30) as answer:
        lines = answer.iter_lines()
        while "text-delta" not in next(lines):
            pass
        path = f"{url}/api/generate/{answer.headers['x-request-id']}"
        assert httpx.delete(path, headers=KEY_HEADER).status_code == 202
        assert '"abort"' in "".join(lines)
    gone = httpx.delete(path, headers=KEY_HEADER)
    assert gone.status_code == 503
    assert "SUPABASE_URL" in gone.json()["detail"]


def test_twenty_with_one_key(start_instance: StartInstance, supabase: Project, vendor: Vendor) -> None:
    """On two instances: one call, one answer for all; another body under the key is refused, a stream too."""
    environ = {**hosted_over(groq=vendor), **over(supabase)}
    one, two = start_instance(environ), start_instance(environ)
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(ask, each.url, **{"idempotency-key": "k"}) for each in (one, two) * 10]
        answers = [each.result() for each in asked]
    assert {each.status_code for each in answers} == {200}
    assert len({each.content for each in answers}) == len(vendor.requests) == 1
    assert [each.headers.get("idempotent-replayed") for each in answers].count("true") == 19
    headers: dict[str, Any] = {**KEY_HEADER, "idempotency-key": "k"}
    other = httpx.post(f"{one.url}/api/generate", json={**ASK, "prompt": "Ho"}, headers=headers)
    stream = httpx.post(f"{one.url}/api/generate", json={"prompt": "Hi"}, headers=headers)
    two = httpx.post(f"{one.url}/api/generate", json=ASK, headers=[*headers.items(), ("idempotency-key", "k")])
    assert [(each.status_code, each.json()["code"]) for each in (other, stream, two)] == [
        (422, "idempotency_key_reused"),
        (422, "idempotency_key_with_stream"),
        (422, "repeated_header"),
    ]
    assert len(vendor.requests) == 1


def test_leaving(start_instance: StartInstance, supabase: Project, vendor: Vendor) -> None:
    """Rows, files and the user go; events stay, as somebody's. The token that still holds is good for nothing more.

    Where the user was removed it is known at once; elsewhere the database says so, before anything is paid.
    """
    environ = {**hosted_over(groq=vendor), **over(supabase)}
    url, elsewhere = start_instance(environ).url, start_instance(environ).url
    user = supabase.user()
    headers = {"authorization": f"Bearer {token(user)}"}
    answer = httpx.post(f"{url}/api/generate", json=ASK, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    assert settled(supabase, 1)
    path = f"{uid(user)}/{'0' * 64}.png"
    supabase.admin().storage.from_("generated").upload(path, b"png", {"content-type": "image/png"})
    removed = httpx.delete(f"{url}/api/me", headers=headers, timeout=30)
    assert (removed.status_code, removed.json()) == (200, {"events": 1, "assets": 0, "files": 1})
    assert supabase.sql("select count(*) from auth.users where id = %s", uid(user)) == [(0,)]
    assert supabase.sql("select count(*) from storage.objects") == [(0,)]
    assert supabase.sql("select count(*) from public.inference_events where user_id <> %s", uid(user)) == [(1,)]
    calls = len(vendor.requests)
    refused = [
        httpx.get(f"{url}/api/session", headers=headers),
        httpx.delete(f"{url}/api/me", headers=headers),
        httpx.post(f"{url}/api/generate", json=ASK, headers=headers),
        httpx.post(f"{elsewhere}/api/generate", json=ASK, headers=headers, timeout=30),
    ]
    told = [(each.status_code, each.json()["code"], each.headers["www-authenticate"]) for each in refused]
    assert told == [(401, "user_removed", "Bearer")] * 4
    assert len(vendor.requests) == calls
    assert supabase.sql("select state, count(*) from public.reservations where state = 'held' group by 1") == []
    again = httpx.delete(f"{elsewhere}/api/me", headers=headers, timeout=30)
    assert (again.status_code, again.json()) == (200, {"events": 0, "assets": 0, "files": 0})


def test_cron(serve: Serve, supabase: Project, vendor: Vendor) -> None:
    """With the secret it does what is due and leaves a row; without, 401."""
    url = f"{serve({**hosted_over(groq=vendor), **over(supabase)})}/api/health?run=1"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"authorization": "Bearer wrong"}).status_code == 401
    secret = {"authorization": "Bearer cron-secret-0123456789"}
    report = httpx.get(url, headers=secret, timeout=60).json()
    assert report["outcome"] == "ok", report
    assert supabase.sql("select job, outcome from public.cron_runs") == [("daily", "ok")]
    supabase.sql(
        "update public.cron_runs set outcome = 'running', finished_at = null, lease_until = now() + interval '1 h'"
    )
    assert httpx.get(url, headers=secret).json()["outcome"] == "running elsewhere"
