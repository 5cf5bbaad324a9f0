"""No secret and no prompt reaches an answer, a log line or a public file, whatever the vendors write."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lib.settings import variables
from tests.conftest import ROOT, Serve, hosted_over
from tests.fakes.vendor import Cut, Reply, Vendor, event, failure, words

CANARIES = {
    variable.name: f"canary-{variable.name.lower()}-0123456789" for variable in variables() if variable.kind == "secret"
}
PROMPT = "canary-prompt-0123456789"
ENVIRONMENT = {
    **CANARIES,
    "API_KEYS": f"web:user:{CANARIES['API_KEYS']}",
    "ALLOW_ANONYMOUS": "1",
    "FEATURE_AI_PROVIDER": "groq",
    "EDGE_CONFIG": "http://127.0.0.1:9/ecfg_x?token=canary-edge-config-0123456789",
    "STATSIG_API_URL": "http://127.0.0.1:9",
    "STATSIG_CDN_URL": "http://127.0.0.1:9",
}
CANARIES["EDGE_CONFIG"] = "canary-edge-config-0123456789"


def echoing(status: int, *, leak: str) -> Reply:
    """An error answer whose every part repeats what was sent."""
    return failure(status, leak, f"Bad key {leak} for prompt {PROMPT}", **{"x-leak": leak})


def faults(leak: str) -> Iterator[Reply]:
    """Every way in which a vendor's text could find its way out."""
    yield from (echoing(status, leak=leak) for status in (400, 401, 402, 403, 404, 413, 422, 429, 500, 503))
    yield words(event({"error": {"message": f"{leak} {PROMPT}", "code": leak, "type": leak}}))
    yield words("Hello", event({"error": {"message": f"{leak} {PROMPT}", "code": leak}}))
    yield words("Hello", Cut(reset=True))
    yield words(event({"choices": leak}), event({"choices": [{"delta": {"content": [leak]}}]}))
    yield Reply([f"<html>{leak} {PROMPT}</html>".encode()], headers={"content-type": "text/html"})


@pytest.mark.parametrize("vendor_name", ["groq", "xai"])
def test_vendor_echoes_the_key(
    serve: Serve, vendor: Vendor, caplog: pytest.LogCaptureFixture, vendor_name: str
) -> None:
    """A vendor that repeats our key and the prompt in its errors tells them to nobody else."""
    caplog.set_level(logging.DEBUG)
    environ = {**hosted_over(**{vendor_name: vendor}), "FEATURE_AI_PROVIDER": vendor_name}
    key_name = f"{vendor_name.upper()}_API_KEY"
    url = serve({**environ, key_name: CANARIES[key_name]})
    seen: list[str] = []
    for fault in faults(CANARIES[key_name]):
        for accept in ("application/json", "text/plain", "*/*"):
            vendor.script(fault)
            seen.append(everything(url, accept))
    seen += [record.getMessage() + str(record.exc_info) + str(record.exc_text) for record in caplog.records]
    assert vendor.requests[0].headers["authorization"] == f"Bearer {CANARIES[key_name]}"
    assert_clean(seen, CANARIES[key_name], PROMPT)


def test_bad_bodies_are_not_repeated(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """An error about a body names its fields, never its values."""
    caplog.set_level(logging.DEBUG)
    url = serve(ENVIRONMENT)
    bodies: list[object] = [
        {"prompt": [PROMPT]},
        {"prompt": PROMPT, "stream": PROMPT, "seed": PROMPT, "stop": {"x": PROMPT}},
        {"messages": [{"role": PROMPT, "content": {"x": PROMPT}}]},
        PROMPT,
    ]
    seen = [httpx.post(f"{url}/api/generate", json=body).text for body in bodies]
    seen += [record.getMessage() for record in caplog.records]
    assert_clean(seen, PROMPT)


def test_public_files_and_health(serve: Serve) -> None:
    """With a canary in every secret, health and the public files hold none."""
    url = serve(ENVIRONMENT)
    files = [file for file in (ROOT / "public").rglob("*") if file.is_file()]
    assert files
    pages = [httpx.get(f"{url}/{file.relative_to(ROOT / 'public')}") for file in files]
    health = httpx.get(f"{url}/api/health")
    assert {page.status_code for page in pages} == {200}
    assert health.json()["parts"]
    assert_clean([page.text + str(page.headers) for page in [*pages, health]], *CANARIES.values())


def test_settings_show_no_secret() -> None:
    """Not even the repr of the settings, as a traceback or a debugger would print it, holds a secret."""
    from lib.settings import from_environ  # noqa: PLC0415 - the subject of this test alone

    assert_clean([repr(from_environ(ENVIRONMENT))], *CANARIES.values())


@pytest.mark.parametrize(
    "path", ["/lib/app.py", "/../lib/app.py", "/%2e%2e/lib/app.py", "/.env", "/vercel.json", "/api/generate.py"]
)
def test_sources_are_not_served(serve: Serve, path: str) -> None:
    """Nothing outside public/ is a file of the site."""
    assert httpx.get(httpx.URL(serve(ENVIRONMENT) + path)).status_code == 404


def everything(url: str, accept: str) -> str:
    """One request's whole answer, headers and what was read of a body that was cut."""
    body = json.dumps({"prompt": PROMPT}).encode()
    headers = {"accept": accept, "content-type": "application/json"}
    with httpx.stream("POST", f"{url}/api/generate", content=body, headers=headers) as response:
        text = str(response.headers)
        try:
            for chunk in response.iter_text():
                text += chunk
        except httpx.RemoteProtocolError as error:
            text += str(error)
    return text


def assert_clean(texts: list[str], *canaries: str) -> None:
    """None of the texts holds a canary."""
    assert texts
    assert [canary for canary in canaries if any(canary in text for text in texts)] == []


def test_env_example_holds_no_value() -> None:
    """The example's variables are unset: what is copied by accident opens nothing."""
    lines = (ROOT / Path(".env.example")).read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#") and not line.endswith("=")] == []
