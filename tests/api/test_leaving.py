"""A caller who leaves stops the provider, in every phase, and what was used is still on record."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import InferenceLog, Serve, local_over
from tests.fakes.vendor import Hang, Vendor, words


def ask(url: str, body: dict[str, object], accept: str = "*/*") -> socket.socket:
    """Send a request by hand, so that the connection can be dropped at will."""
    content = json.dumps(body).encode()
    head = (
        f"POST /api/generate HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    parts = urlsplit(url)
    connection = socket.create_connection((str(parts.hostname), parts.port or 80), timeout=10)
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "not streamed"])
def test_before_the_first_token(serve: Serve, vendor: Vendor, inference_log: InferenceLog, *, stream: bool) -> None:
    """Who leaves while the provider still thinks stops it."""
    vendor.script(words(Hang()))
    connection = ask(serve(local_over(vendor)), {"prompt": "Hi", "stream": stream})
    until_asked(vendor)
    connection.close()
    assert vendor.requests[0].hung_up.wait(5)
    assert outcome(inference_log) == ("cancelled", 0)


def test_in_mid_stream(serve: Serve, vendor: Vendor, inference_log: InferenceLog) -> None:
    """Who leaves in the middle of a sentence stops the provider; the tokens seen so far are counted."""
    vendor.script(words("Hello world", Hang()))
    connection = ask(serve(local_over(vendor)), {"prompt": "Hi"})
    received = b""
    while b"Hello world" not in received:
        received += connection.recv(65_536)
    connection.close()
    assert vendor.requests[0].hung_up.wait(5)
    assert outcome(inference_log) == ("cancelled", 3)


def test_in_the_middle_of_a_json_answer(serve: Serve, vendor: Vendor) -> None:
    """The same holds where nothing has been sent to the caller yet."""
    vendor.script(words("Hello", Hang()))
    connection = ask(serve(local_over(vendor)), {"prompt": "Hi", "stream": False})
    until_asked(vendor)
    connection.close()
    assert vendor.requests[0].hung_up.wait(5)


def test_others_go_on(serve: Serve, vendor: Vendor) -> None:
    """The connection that was dropped takes nobody else's with it."""
    url = serve(local_over(vendor))
    vendor.script(words("Hello", Hang()))
    connection = ask(url, {"prompt": "Hi"})
    until_asked(vendor)
    connection.close()
    assert vendor.requests[0].hung_up.wait(5)
    assert httpx.post(f"{url}/api/generate", json={"prompt": "Hi", "stream": False}).json()["text"] == "You said: Hi"


def until_asked(vendor: Vendor) -> None:
    """Wait until the vendor has the request."""
    assert vendor.asked.wait(10)


def outcome(log: InferenceLog) -> tuple[str, int]:
    """Outcome and output tokens of the call on record."""
    line = log.next()
    assert line["estimated"] is True
    return line["outcome"], line["output_tokens"]
