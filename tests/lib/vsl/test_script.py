"""From a request to its script, with a vendor at the network's edge: asked, checked, written again, or worded by us."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lib.data.limits import Cap
from lib.errors import LimitReached, NoProvider
from lib.vsl.brief import planned
from lib.vsl.drafts import AGAIN
from lib.vsl.screenplay import grounds_of
from tests.conftest import InferenceLog, hosted_over, local_over
from tests.fakes.vendor import Reply, Vendor, failure, words
from tests.lib.vsl.asked import Written, write
from tests.lib.vsl.briefs import job_request

HONEST = {
    "hook": "The fire is out, and the torch in your hand flickers.",
    "problem": "You feel your way back to the tent. Somebody has the good lamp, and it isn't you.",
    "solution": "This is Brasa. One charge burns for forty hours, and six hours of sun fill it again.",
    "proof": "It weighs 310 grams. Ana Reis designed it in Porto.",
    "offer": "Two lanterns for $59, shipping included. Send it back within 30 days and we refund you.",
    "cta": "Order your Brasa.",
}


def draft(*, title: str = "Light after the fire", **narrations: str) -> dict[str, Any]:
    """What a model answers: the honest letter, but for these beats."""
    frames = [
        {
            "beat": beat,
            "narration": text,
            "on_screen": f"{beat.title()} words",
            "scene": f"A lantern on a branch, seen at dusk, for the {beat}",
            "alt": f"A lantern glows: {beat}",
        }
        for beat, text in {**HONEST, **narrations}.items()
    ]
    return {"title": title, "frames": frames}


def said(value: object) -> Reply:
    """An answer of this JSON."""
    return words(json.dumps(value))


def written(vendor: Vendor, *replies: Reply, **fields: Any) -> Written:
    """The lantern's script as Groq writes it."""
    vendor.script(*replies)
    return write(job_request(**fields), hosted_over(groq=vendor))


def test_one_call(vendor: Vendor) -> None:
    """An honest draft is the script: one call, asked by JSON schema, with the brief as data and words per frame."""
    found = written(vendor, said(draft())).script
    assert [(frame.beat, frame.narration, frame.source) for frame in found.frames] == [
        (beat, text, "model") for beat, text in HONEST.items()
    ]
    assert (found.title, found.degraded) == ("Light after the fire", False)
    assert [frame.claims for frame in found.frames] == [
        (),
        (),
        ("light", "sun"),
        ("weight", "origin"),
        (),
        (),
    ]
    assert found.frames[0].alt == "A lantern glows: hook"
    assert found.frames[0].image_prompt.startswith("A lantern on a branch, seen at dusk, for the hook: ")
    assert "No text, no letters" in found.frames[0].image_prompt
    (request,) = vendor.requests
    assert request.body["response_format"]["json_schema"]["strict"] is True
    system, user = request.body["messages"]
    assert "English" in system["content"]
    told = json.loads(user["content"])
    assert told["brief"]["facts"] == [fact["text"] for fact in job_request()["facts"]]
    assert [frame["beat"] for frame in told["frames"]] == list(HONEST)
    assert 100 < sum(frame["words"] for frame in told["frames"]) < 160


def test_written_again(vendor: Vendor) -> None:
    """A slot that claims too much is written again, alone and once, told what the brief does not say."""
    lying = draft(proof="Loved by 9,000 campers. It weighs 310 grams.")
    found = written(vendor, said(lying), said({"narrations": [HONEST["proof"]]})).script
    assert [frame.narration for frame in found.frames] == list(HONEST.values())
    assert not found.degraded
    again = vendor.requests[1].body["messages"]
    assert again[0]["content"] == AGAIN.format(language="English")
    (slot,) = json.loads(again[1]["content"])["frames"]
    assert slot["beat"] == "proof"
    assert "9,000" in slot["not_in_brief"]
    assert len(vendor.requests) == 2


def test_still_lying(vendor: Vendor) -> None:
    """What still claims too much the second time is left out, sentence by sentence; the rest stays a model's."""
    lying = "Only five lanterns left. It weighs 310 grams, says the scale."
    found = written(vendor, said(draft(proof=lying)), said({"narrations": [lying]})).script
    assert [frame.narration for frame in found.frames if frame.beat == "proof"] == [
        "It weighs 310 grams, says the scale."
    ]
    assert len(vendor.requests) == 2


@pytest.mark.parametrize(
    "again", [said({"narrations": ["Voted lamp of the year."]}), failure(400), words("no"), said({"narrations": []})]
)
def test_nothing_left(vendor: Vendor, again: Reply) -> None:
    """Where nothing honest is left, or nobody writes again, our wording stands there, and the script says so."""
    found = written(vendor, said(draft(hook="Voted lamp of the year.")), again, again).script
    hook = found.frames[0]
    assert (hook.beat, hook.source, found.degraded) == ("hook", "template", True)
    assert "Voted" not in hook.narration
    assert [frame.source for frame in found.frames[1:]] == ["model"] * 5


def test_no_lie_gets_through(vendor: Vendor) -> None:
    """Title, words on the screen, scenes and descriptions are held to the brief as well."""
    lying = draft(title="Voted best lamp of 2026")
    for frame in lying["frames"]:
        frame |= {"on_screen": "Only 3 left", "scene": "Tom Hanks holds the lamp", "alt": "A lamp for $5"}
    found = written(vendor, said(lying)).script
    grounds = grounds_of(job_request())
    for text in (found.title, *(frame.on_screen for frame in found.frames), *(frame.alt for frame in found.frames)):
        assert grounds.findings(text) == ()
    assert not any("Hanks" in frame.image_prompt for frame in found.frames)
    assert len(vendor.requests) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        words("Sure! Here is your script."),
        said({"title": "A", "frames": []}),
        said(draft() | {"note": "x"}),
        said({**draft(), "frames": draft()["frames"][::-1]}),
        said(draft(cta=" ")),
    ],
)
def test_no_script(vendor: Vendor, wrong: Reply) -> None:
    """An answer that is no script is asked for again once; then the letter is our own wording, marked as that."""
    found = written(vendor, wrong, wrong).script
    assert len(vendor.requests) == 2
    assert found.degraded
    assert [frame.beat for frame in found.frames] == list(HONEST)
    assert {frame.source for frame in found.frames} == {"template", "facts"}
    assert written(vendor, wrong, said(draft())).script.degraded is False


def test_fenced(vendor: Vendor) -> None:
    """A fence around the JSON is no reason to refuse it."""
    assert not written(vendor, words(f"```json\n{json.dumps(draft())}\n```")).script.degraded


def test_too_long(vendor: Vendor) -> None:
    """A narration much longer than there is time for loses its last sentences."""
    long = " ".join([HONEST["problem"]] * 5)
    problem = written(vendor, said(draft(problem=long))).script.frames[1]
    assert HONEST["problem"].split()[0] in problem.narration
    assert len(problem.narration.split()) <= 29 * 1.5


def test_money(vendor: Vendor, inference_log: InferenceLog) -> None:
    """Both calls are on record and booked, by their price."""
    found = written(vendor, said(draft(hook="NASA uses it.")), said({"narrations": [HONEST["hook"]]}))
    lines = [inference_log.next(), inference_log.next()]
    assert [(line["route"], line["modality"], line["outcome"]) for line in lines] == [("/api/vsl", "text", "ok")] * 2
    assert found.cost_usd is not None
    assert found.booked_microusd == sum(line["cost_micro_usd"] for line in lines) > 0
    assert found.model == "openai/gpt-oss-20b"


def test_nobody_answers(vendor: Vendor) -> None:
    """Where no vendor answers there is an error to try again after, not a letter that nobody wrote."""
    vendor.script(*[failure(503)] * 4)
    with pytest.raises(NoProvider):
        write(job_request(), hosted_over(groq=vendor))
    with pytest.raises(NoProvider):
        write(job_request(), {})


def test_own_script_asks_nobody() -> None:
    """A script of one's own needs no vendor."""
    found = write(job_request(script="Hello there. This is a lamp."), {})
    assert [frame.narration for frame in found.script.frames] == ["Hello there. This is a lamp."]
    assert found.cost_usd == 0


def test_small_model(vendor: Vendor) -> None:
    """A model with a small context gets a short prompt per beat that is ours to word, and its choice is kept."""
    vendor.script(*[said({"line": "B"})] * 2)
    found = write(job_request(), local_over(vendor)).script
    assert len(vendor.requests) == 2
    assert all(len(request.raw) < 1_500 for request in vendor.requests)
    assert [frame.source for frame in found.frames] == ["template", "template", "facts", "facts", "facts", "facts"]
    assert found.degraded
    for frame, request in zip(found.frames, vendor.requests, strict=False):
        listed = request.body["messages"][0]["content"].split("B. ")[1].split("\n")[0]
        assert frame.narration.startswith(listed)


@pytest.mark.parametrize("reply", [failure(500), failure(400), words("nonsense"), said({"line": "Z"}), said([])])
def test_small_model_fails(vendor: Vendor, reply: Reply) -> None:
    """Whatever the small model does there is a script, the same for the same seed."""
    scripts: list[Any] = []
    for _ in range(2):
        vendor.script(*[reply] * 8)
        scripts.append(write(job_request(seed=3), local_over(vendor)).script)
    assert scripts[0] == scripts[1]
    assert [frame.beat for frame in scripts[0].frames] == list(planned(job_request()))


def test_sent_back(vendor: Vendor) -> None:
    """A script can be sent back as it was told: it comes out the same, and asks nobody."""
    first = written(vendor, said(draft(hook="Voted lamp of the year.")), said({"narrations": ["Voted again by all."]}))
    again = write(job_request(script=first.script.told()), {}).script
    assert again == first.script


def test_portuguese(vendor: Vendor) -> None:
    """The language is told by name, of the region where there is one."""
    written(vendor, said(draft()), said({"narrations": []}), said({"narrations": []}), language="pt-BR")
    assert "Brazilian Portuguese" in vendor.requests[0].body["messages"][0]["content"]


def test_limit(vendor: Vendor) -> None:
    """Who may spend no more is told so, before anybody is asked; also where the small model's wording is free."""
    with pytest.raises(LimitReached):
        write(job_request(), hosted_over(groq=vendor), cap=Cap(microusd_per_day=0))
    assert vendor.requests == []
    with pytest.raises(LimitReached):
        write(job_request(), local_over(vendor), cap=Cap(requests_per_minute=1))
    assert len(vendor.requests) == 2  # the first question and its repair; the second question is not asked
