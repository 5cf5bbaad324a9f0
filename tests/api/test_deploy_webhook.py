"""POST /api/deploy_webhook: from a delivery to an issue, and what does not get that far."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import httpx
import pytest

from tests.api.conftest import StartInstance, over
from tests.conftest import ACCESS, KEY_HEADER, OPERATOR_KEY, Serve
from tests.fakes.github import LIMITED, LOST, Fault, GitHub
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Gate
from tests.fakes.web import Asked, Told, Web, told
from tests.incidents import (
    OLD_SECRET,
    SECRET,
    SIGNING,
    deliveries,
    delivery,
    eventually,
    later,
    rows,
    send,
    send_status,
    signature,
    status,
)
from tests.local.supabase.conftest import Project

OPERATOR = {"authorization": f"Bearer {OPERATOR_KEY}"}
CRON = {"authorization": "Bearer cron-secret-0123456789"}
REPETITIONS = int(os.environ.get("REPETITIONS", "20"))
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def github(loop: LoopThread) -> Iterator[GitHub]:
    """A repository."""
    github = GitHub(loop)
    yield github
    github.close()
    assert github.violations == []


@pytest.fixture
def environ(supabase: Project, github: GitHub) -> dict[str, str]:
    """All that the webhook takes."""
    return {**ACCESS, **over(supabase), **SIGNING, **github.environ}


@pytest.fixture
def url(serve: Serve, environ: dict[str, str]) -> str:
    """The site."""
    return serve(environ)


def run_cron(url: str) -> dict[str, Any]:
    """What the cron does."""
    return httpx.get(f"{url}/api/health?run=1", headers=CRON, timeout=60).json()


def test_a_failed_deployment_becomes_an_issue_and_the_next_good_one_closes_it(
    url: str, supabase: Project, github: GitHub
) -> None:
    """The whole way: delivery, row, issue; then a success of the same project and target."""
    assert (send(url, delivery()).status_code, send(url, delivery()).json()) == (202, {"duplicate": True})
    eventually(lambda: [row["told"] for row in rows(supabase)] == ["open"])
    assert send(url, delivery("evt_2", "deployment.succeeded", deployment="dpl_2")).status_code == 202
    eventually(lambda: [row["told"] for row in rows(supabase)] == ["closed"])
    (row,) = rows(supabase)
    assert (row["state"], row["resolution"], row["occurrences"], row["issue_number"]) == ("resolved", "recovered", 1, 1)
    (issue,) = github.issues
    assert (issue["title"], issue["state"]) == ("Production deployment of web failed", "closed")
    assert "0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d" in issue["body"]
    assert deliveries(supabase) == [("evt_1", "opened"), ("evt_2", "recovery")]
    assert github.calls("POST") == ["POST /issues", "POST /issues/1/comments"]


@pytest.mark.parametrize(
    ("kind", "target", "is_over"),
    [
        ("deployment.succeeded", "production", True),
        ("deployment.promoted", "preview", True),
        ("deployment.succeeded", None, False),
        ("deployment.created", "production", False),
        ("deployment.ready", "production", False),
    ],
)
def test_what_ends_it(url: str, supabase: Project, kind: str, target: str | None, *, is_over: bool) -> None:
    """A success of the same target, or a promotion, which is production's; nothing else."""
    send(url, delivery())
    eventually(lambda: len(rows(supabase)) == 1)
    answer = send(url, delivery("evt_2", kind, target=target))
    assert answer.json() in ({"accepted": True}, {"ignored": "not about how a deployment ended"})
    if answer.status_code == 202:
        eventually(lambda: deliveries(supabase)[-1] == ("evt_2", "recovery"))
    assert (rows(supabase)[0]["state"] == "resolved") is is_over


def test_canceled_is_another_cause(url: str, supabase: Project) -> None:
    """A deployment that was canceled opens one of its own; another project's success ends neither."""
    send(url, delivery())
    send(url, delivery("evt_2", "deployment.canceled"))
    send(url, delivery("evt_3", "deployment.succeeded", project="prj_2"))
    eventually(lambda: [outcome for _, outcome in deliveries(supabase)] == ["opened", "opened", "recovery"])
    assert [(row["title"].rpartition(" ")[2], row["state"]) for row in rows(supabase)] == [
        ("failed", "open"),
        ("canceled", "open"),
    ]


def test_github_as_second_entrance(url: str, supabase: Project) -> None:
    """A deployment status of GitHub fails and succeeds as well; other events of GitHub are ignored."""
    assert send_status(url, b'{"zen": "x"}', "g-0", "ping").json() == {"ignored": "not about how a deployment ended"}
    assert send_status(url, status(1, "pending"), "g-1").status_code == 200
    assert send_status(url, status(2), "g-2").status_code == 202
    eventually(lambda: len(rows(supabase)) == 1)
    assert rows(supabase)[0]["title"] == "Production deployment of web failed"
    assert send_status(url, status(3, "success", at=2.0), "g-3").status_code == 202
    eventually(lambda: rows(supabase)[0]["state"] == "resolved")
    assert send_status(url, status(2), "g-2").json() == {"duplicate": True}


def test_secrets_in_rotation(url: str) -> None:
    """Each of two secrets is valid; GitHub's is not one for Vercel's signature."""
    body = delivery()
    assert send(url, body, signature(body, OLD_SECRET)).status_code == 202
    assert send(url, body, signature(body, SIGNING["GITHUB_WEBHOOK_SECRET"])).status_code == 401
    assert send(url, body, signature(body, f"{SECRET},{OLD_SECRET}")).status_code == 401


def forgeries(random: Random) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Deliveries whose signatures do not hold: forged, cut, re-encoded, changed in case, of another body or place."""
    for number in range(200):
        body = delivery(f"evt_{number}")
        good = signature(body)
        at = random.randrange(len(body))
        place = random.randrange(40)
        flipped = body[:at] + bytes([body[at] ^ 1 << random.randrange(8)]) + body[at + 1 :]
        letter = random.choice([each for each in "0123456789abcdef" if each != good[place]])
        yield flipped, {"x-vercel-signature": good}
        yield body, {"x-vercel-signature": good[:place] + letter + good[place + 1 :]}
        yield body, {"x-vercel-signature": random.choice([good[:place], good + "0", f"sha1={good}", "", good * 2])}
        upper = good.upper() if good.upper() != good else "A" * 40
        again = json.dumps(json.loads(body), separators=(",", ":")).encode()
        yield random.choice([(body, {"x-vercel-signature": upper}), (again, {"x-vercel-signature": good})])
        other = signature(body, random.choice([SECRET[:-1], SECRET.upper(), "", f" {SECRET}"]))
        yield body, random.choice([{"x-vercel-signature": other}, {"x-hub-signature-256": f"sha256={good}"}, {}])


def test_fault_35_signatures_that_do_not_hold(url: str, supabase: Project) -> None:
    """A thousand forged, cut, re-encoded, case-changed and borrowed signatures: 401 each, and nothing is written."""
    with httpx.Client(base_url=url, timeout=30) as client:
        answers = [
            client.post("/api/deploy_webhook", content=body, headers=headers)
            for body, headers in forgeries(Random(20261122))  # noqa: S311 - the same each time
        ]
    assert len(answers) == 1000
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.json()["detail"] for answer in answers} == {"The signature does not hold."}
    assert (rows(supabase), deliveries(supabase)) == ([], [])


def test_fault_35_played_again(url: str, supabase: Project, github: GitHub) -> None:
    """A thousand genuine deliveries that are played again count for nothing; nor does one too old to be known."""
    body = delivery()
    send(url, body)
    eventually(lambda: [row["told"] for row in rows(supabase)] == ["open"])
    with httpx.Client(base_url=url, timeout=30) as client:
        headers = {"x-vercel-signature": signature(body)}
        answers = [client.post("/api/deploy_webhook", content=body, headers=headers).json() for _ in range(1000)]
    assert answers == [{"duplicate": True}] * 1000
    assert send(url, delivery("evt_old", at=1_000_000_000)).json() == {"ignored": "too old"}
    assert (rows(supabase)[0]["occurrences"], github.calls("POST")) == (1, ["POST /issues"])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b"[1]", "invalid_event"),
        (b"{}", "invalid_event"),
        (b'{"id": "a b", "type": "deployment.error"}', "invalid_event"),
        (b'{"id": "a", "type": "deployment.error"}', "invalid_event"),
        (
            b'{"id": "a", "type": "deployment.error", "createdAt": 1e300, "payload": {"project": {"id": "p"}}}',
            "invalid_event",
        ),
        (
            b'{"id": "a", "type": "deployment.error", "createdAt": true, "payload": {"project": {"id": "p"}}}',
            "invalid_event",
        ),
    ],
)
def test_signed_nonsense(url: str, supabase: Project, body: bytes, code: str) -> None:
    """What is signed but says nothing that we could keep is 400, and leaves nothing."""
    answer = send(url, body)
    assert (answer.status_code, answer.json()["code"], deliveries(supabase)) == (400, code, [])


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1969-12-31T23:59:59Z"])
def test_signed_by_github_and_of_no_time(url: str, supabase: Project, at: str) -> None:
    """A moment that no calendar has in UTC is nonsense too."""
    body = json.loads(status(9))
    body["deployment_status"]["created_at"] = at
    answer = send_status(url, json.dumps(body).encode(), "g-time")
    assert (answer.status_code, answer.json()["code"], deliveries(supabase)) == (400, "invalid_event", [])


def test_too_large(url: str) -> None:
    """A body beyond 256 KiB is refused before anything is computed of it."""
    assert send(url, b" " * (256 * 1024 + 1)).status_code == 413


@pytest.mark.parametrize(
    ("off", "named"),
    [
        (("VERCEL_WEBHOOK_SECRET",), "VERCEL_WEBHOOK_SECRET"),
        (("SUPABASE_URL",), "SUPABASE_URL"),
    ],
)
def test_off(serve: Serve, environ: dict[str, str], off: tuple[str, ...], named: str) -> None:
    """Without a secret nobody is believed; without rows nothing can be kept: 503, so that the sender tries again."""
    url = serve({name: value for name, value in environ.items() if name not in off})
    answer = send(url, delivery())
    assert (answer.status_code, named in answer.json()["detail"], "retry-after" in answer.headers) == (503, True, True)


def test_database_is_away(serve: Serve, environ: dict[str, str]) -> None:
    """What can't be kept is not accepted."""
    answer = send(serve({**environ, "SUPABASE_URL": NOWHERE}), delivery())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


RACES = [
    pytest.param(1, 10, id="ten"),
    # A busy machine answers some of fifty too late, whose senders would come again.
    pytest.param(REPETITIONS, 50, id="fifty", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("repetitions", "at_once"), RACES)
def test_fault_36_copies_at_once(
    start_instance: StartInstance,
    environ: dict[str, str],
    supabase: Project,
    github: GitHub,
    repetitions: int,
    at_once: int,
) -> None:
    """Fifty copies of one delivery, over two processes: one is accepted, one issue, one call of GitHub, each time."""
    urls = [start_instance(environ).url for _ in range(2)]
    for repetition in range(repetitions):
        body = delivery(f"evt_{repetition}", project=f"prj_{repetition}")
        if repetition % 10 == 0:
            supabase.sql("update public.incidents set attempted_at = attempted_at - interval '2 hours'")
        with ThreadPoolExecutor(at_once) as pool:
            answers = [answer.json() for answer in pool.map(send, urls * (at_once // 2), [body] * at_once)]
        assert sorted(map(str, answers)) == [str({"accepted": True})] + [str({"duplicate": True})] * (at_once - 1)
        eventually(lambda: rows(supabase)[-1]["told"] == "open")
        assert [row["occurrences"] for row in rows(supabase)] == [1] * (repetition + 1)
        assert github.calls("POST") == ["POST /issues"] * (repetition + 1)


@pytest.mark.parametrize(("repetitions", "at_once"), RACES)
def test_fault_37_deliveries_of_one_cause(
    start_instance: StartInstance,
    environ: dict[str, str],
    supabase: Project,
    github: GitHub,
    repetitions: int,
    at_once: int,
) -> None:
    """Fifty deliveries of one cause, over two processes: one issue, fifty occurrences, each time."""
    urls = [start_instance(environ).url for _ in range(2)]
    for repetition in range(repetitions):
        bodies = [
            delivery(f"evt_{repetition}_{number}", project=f"prj_{repetition}", deployment=f"dpl_{number}")
            for number in range(at_once)
        ]
        if repetition % 10 == 0:
            supabase.sql("update public.incidents set attempted_at = attempted_at - interval '2 hours'")
        with ThreadPoolExecutor(at_once) as pool:
            answers = list(pool.map(send, urls * (at_once // 2), bodies))
        assert [answer.status_code for answer in answers] == [202] * at_once
        eventually(lambda: rows(supabase)[-1]["occurrences"] == at_once and rows(supabase)[-1]["told_occurrences"] > 9)
        assert github.calls("POST").count("POST /issues") == repetition + 1
    assert len(github.open) == len(rows(supabase)) == repetitions


def test_the_answer_does_not_wait_for_github(url: str, supabase: Project, github: GitHub) -> None:
    """The sender has its answer while GitHub keeps silent; when GitHub speaks, the rest is done."""
    github.gate = Gate()
    assert send(url, delivery()).status_code == 202
    github.web.wait_for(1)
    assert rows(supabase)[0]["issue_number"] is None
    github.gate.open()
    eventually(lambda: rows(supabase)[0]["issue_number"] == 1)


@pytest.mark.parametrize("fault", [LOST, Fault(cut=True, done=True)], ids=["502", "connection lost"])
def test_fault_38_done_but_not_told(url: str, supabase: Project, github: GitHub, fault: Fault) -> None:
    """GitHub makes the issue and answers 502, or nothing: no second is made, and the cron finds the first."""
    github.faults = [fault]
    send(url, delivery())
    eventually(lambda: [row["trouble"] for row in rows(supabase)] not in ([], [None]))
    assert (len(github.open), rows(supabase)[0]["issue_number"], github.calls("POST")) == (1, None, ["POST /issues"])
    later(supabase, 91)
    assert run_cron(url)["tasks"]["incidents"]["report"]["unsettled"] == 0
    assert (github.open, rows(supabase)[0]["issue_number"], github.calls("POST")) == ([1], 1, ["POST /issues"])


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("rate_limited", "GitHub takes no issues now (rate_limited)"),
        ("unauthorized", "GITHUB_TOKEN is not valid"),
        ("not_found", "GITHUB_REPOSITORY names no repository"),
        ("issues_off", "GITHUB_REPOSITORY has its issues switched off"),
        ("forbidden", "GITHUB_TOKEN may not write issues here"),
        ("connection_failed", "GitHub takes no issues now (connection_failed)"),
    ],
)
def test_fault_39_github_refuses(
    serve: Serve,
    environ: dict[str, str],
    supabase: Project,
    github: GitHub,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
    says: str,
) -> None:
    """No call is repeated or waited for; the incident is kept, shown, and one line says what to do."""
    caplog.set_level(logging.WARNING, "incidents")
    if trouble == "unauthorized":
        environ["GITHUB_TOKEN"] = "github_pat_of_somebody_else_0123"
    elif trouble == "not_found":
        environ["GITHUB_REPOSITORY"] = "acme/other"
    elif trouble == "connection_failed":
        environ["GITHUB_API_URL"] = NOWHERE
    github.faults = [LIMITED] if trouble == "rate_limited" else []
    github.has_issues, github.may_write = trouble != "issues_off", trouble != "forbidden"
    url = serve(environ)
    for number in range(3):
        send(url, delivery(f"evt_{number}"))
    eventually(lambda: [outcome for _, outcome in deliveries(supabase)] == ["opened", "counted", "counted"])
    eventually(lambda: rows(supabase)[0]["trouble"] == trouble)
    assert len([line for line in caplog.messages if says in line]) == 1
    assert len(github.calls("POST")) <= 1
    shown = httpx.get(f"{url}/api/health?deep=1", headers=OPERATOR).json()["operations"]["incidents"]
    assert [(each["trouble"], each["issue_number"]) for each in shown] == [(trouble, None)]


def test_who_took_it_died(
    serve: Serve,
    start_instance: StartInstance,
    environ: dict[str, str],
    supabase: Project,
    github: GitHub,
    loop: LoopThread,
) -> None:
    """An instance that is killed after its answer: a minute later another does the rest, by the row."""
    gate = Gate()
    silent = Web(loop, lambda _: Told(404, gate=gate))
    instance = start_instance({**environ, "VERCEL_TOKEN": "vercel-token-0123456789", "VERCEL_API_URL": silent.url})
    assert send(instance.url, delivery()).status_code == 202
    silent.wait_for(1)
    instance.kill()
    gate.open()
    silent.close()
    url = serve(environ)
    assert (rows(supabase), deliveries(supabase)) == ([], [("evt_1", None)])
    assert run_cron(url)["tasks"]["deliveries"]["report"] == 0
    later(supabase, 61)
    # The cron, or what the instance does after its answers, whichever comes first.
    run_cron(url)
    eventually(lambda: deliveries(supabase) == [("evt_1", "opened")])
    assert github.open == [1]


def test_traffic_does_what_the_daily_cron_would(
    serve: Serve, environ: dict[str, str], supabase: Project, github: GitHub
) -> None:
    """Any request, once a minute over all instances, finishes what is left over."""
    github.faults = [LOST]
    send(serve(environ), delivery())
    eventually(lambda: [row["trouble"] for row in rows(supabase)] == ["http_502"])
    later(supabase, 91)
    httpx.get(f"{serve(environ)}/api/health")
    eventually(lambda: rows(supabase)[0]["issue_number"] == 1)
    assert github.calls("POST") == ["POST /issues"]
    asked = len(github.calls())
    httpx.get(f"{serve(environ)}/api/health")
    assert len(github.calls()) == asked


def vercel(loop: LoopThread, log: list[str]) -> Web:
    """Vercel's API with a deployment that has failed like this."""

    def usual(asked: Asked) -> Told:
        if asked.headers.get("authorization") != "Bearer vercel-token-0123456789":
            return told({"error": {"code": "forbidden"}}, 403)
        if asked.path == "/v13/deployments/dpl_1":
            return told({"id": "dpl_1", "errorCode": "BUILD_FAILED", "errorMessage": "npm run build exited with 1"})
        assert (asked.path, asked.query["direction"]) == ("/v3/deployments/dpl_1/events", ["backward"])
        return told([{"type": "stdout", "created": 1, "payload": {"text": line}} for line in reversed(log)])

    return Web(loop, usual)


def test_the_failing_lines_of_the_log(
    serve: Serve, environ: dict[str, str], supabase: Project, github: GitHub, loop: LoopThread
) -> None:
    """With a token of Vercel's they are in the issue, fenced and without secrets, and make the cause."""
    token = "vercel-token-0123456789"
    log = ["Cloning", f"Error: @octocat <b> {token} {environ['GITHUB_TOKEN']}", "```", "at line 7"]
    api = vercel(loop, log)
    url = serve({**environ, "VERCEL_TOKEN": token, "VERCEL_API_URL": api.url})
    send(url, delivery())
    eventually(lambda: len(github.issues) == 1)
    body = github.issues[0]["body"]
    assert "````text\nError: @\u200boctocat <b> [secret] [secret]\n```\nat line 7\n````" in body
    assert "`BUILD_FAILED`" in body
    log[:] = ["Error: another thing"]
    send(url, delivery("evt_2"))
    eventually(lambda: len(rows(supabase)) == 2)
    api.close()


def test_dry_run(url: str, supabase: Project, github: GitHub) -> None:
    """An operator sees what would be opened, and nothing is: no delivery, no row, no write to GitHub."""
    answer = httpx.post(f"{url}/api/deploy_webhook?test=1", headers=OPERATOR).json()
    assert (answer["ok"], [step["step"] for step in answer["steps"]]) == (True, ["signature", "row", "issue"])
    assert (answer["would"]["action"], answer["would"]["title"]) == ("open", "Production deployment of sample failed")
    assert (rows(supabase), deliveries(supabase), github.issues, github.calls("POST")) == ([], [], [], [])


def test_dry_run_says_what_is_missing(serve: Serve) -> None:
    """Each step that would fail says why, by the variable's name."""
    answer = httpx.post(f"{serve(ACCESS)}/api/deploy_webhook?test=1", headers=OPERATOR).json()
    assert answer["ok"] is False
    missing = " ".join(step["detail"] for step in answer["steps"])
    assert all(name in missing for name in ("VERCEL_WEBHOOK_SECRET", "SUPABASE_URL", "GITHUB_TOKEN"))


@pytest.mark.parametrize(("headers", "code"), [({}, 403), (KEY_HEADER, 403), ({"authorization": "Bearer x"}, 401)])
def test_dry_run_is_for_operators(url: str, headers: dict[str, str], code: int) -> None:
    """Nobody else may look, here or at the deeper health."""
    assert httpx.post(f"{url}/api/deploy_webhook?test=1", headers=headers).status_code == code
    assert httpx.get(f"{url}/api/health?deep=1", headers=headers).status_code == code


def test_fault_53_cron_secret(url: str) -> None:
    """Without the secret, or with another, nothing is run."""
    for given in ({}, {"authorization": "Bearer x"}, {"authorization": CRON["authorization"].upper()}, OPERATOR):
        assert httpx.get(f"{url}/api/health?run=1", headers=given).status_code == 401


def test_fault_53_crons_overlap(
    start_instance: StartInstance, environ: dict[str, str], supabase: Project, github: GitHub
) -> None:
    """Eight at once, over two processes: one runs, the others say so; each task is done once."""
    urls = [start_instance(environ).url for _ in range(2)]
    send(urls[0], delivery())
    eventually(lambda: [row["told"] for row in rows(supabase)] == ["open"])
    github.gate = Gate()
    supabase.sql("update public.incidents set occurrences = 5")
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(run_cron, urls[number % 2]) for number in range(8)]
        github.web.wait_for(len(github.calls()) + 1)
        eventually(lambda: sum(each.done() for each in running) == 7)
        github.gate.open()
        outcomes = sorted(each.result()["outcome"] for each in running)
    assert outcomes == ["ok"] + ["running elsewhere"] * 7
    assert supabase.sql("select count(*) from public.cron_runs") == [(1,)]
    assert github.calls("POST") == ["POST /issues", "POST /issues/1/comments"]
