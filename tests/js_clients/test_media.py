"""Pictures and speech in the AI SDK's own client: files of a message, text first, and a conversation that goes on."""

from __future__ import annotations

from tests.api import conftest as api
from tests.api.studio import Studio
from tests.fakes.vendor import words
from tests.js_clients.node import Node, OpenPage

supabase, studio = api.supabase, api.studio

ALL = {"outputs": ["text", "image", "speech"]}


def test_stream_fits_the_sdks_schema(studio: Studio, node: Node) -> None:
    """Every event is one that the SDK knows; the message begins with its text and has both files, each once."""
    studio.text.script(words("Hello", " world."))
    read = node.ask("read", {"url": studio.url, "body": {"prompt": "A lighthouse.", **ALL}})
    assert (read["rejected"], read["errors"]) == ([], [])
    types = [chunk["type"] for chunk in read["chunks"]]
    assert types.index("text-delta") < types.index("file")
    parts = [(part["type"], part.get("mediaType")) for part in read["message"]["parts"]]
    assert parts[:2] == [("step-start", None), ("text", None)]
    assert sorted(parts[2:]) == [("file", "audio/mpeg"), ("file", "image/jpeg")]
    assert {asset["kind"] for asset in read["message"]["metadata"]["assets"]} == {"image", "audio"}


def test_conversation_goes_on_after_files(studio: Studio, open_page: OpenPage) -> None:
    """What was drawn and read in an answer comes back with the next request, and is no input of it."""
    studio.text.script(words("Hello."), words("Again."))
    page = open_page("use_chat", url=studio.url, body=ALL)
    page.act("send", {"text": "Hi"})
    first = page.at_rest()
    assert [part["type"] for part in first["messages"][1]["parts"]].count("file") == 2
    page.act("send", {"text": "And now?"})
    page.until(text="Again.")
    second = page.at_rest()
    assert (second["error"], second["text"]) == (None, "Again.")
    said = [(message["role"], message["content"]) for message in studio.text.requests[-1].body["messages"]]
    assert said == [("user", "Hi"), ("assistant", "Hello."), ("user", "And now?")]
    drawn = [asked.json()["prompt"] for asked in studio.fal.asked if asked.method == "POST"]
    assert drawn == ["Hi", "And now?"]
