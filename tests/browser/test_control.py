"""The page's form for what `make run` decides by: a change is in the next answer; what does not hold changes none."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lib.app import App
from lib.settings import from_environ
from local.edge_config import FOLDER, Files, endpoints
from local.server import Site
from tests.browser.chromium import Page, expect, wider_than_page
from tests.conftest import ACCESS, ROOT, MakeVendor, hosted_over, served_site
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Vendor, groq_words

pytestmark = pytest.mark.slow

SPECS = "statsig-local.json"
MODELS = {"groq": "openai/gpt-oss-20b", "deepinfra": "openai/gpt-oss-120b", "xai": "grok-4.7"}
HOSTILE = "<img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Desk:
    """The site with its items beside it, and the vendors behind it."""

    url: str
    items: Path
    groq: Vendor
    deepinfra: Vendor

    def item(self, name: str) -> dict[str, Any]:
        """An item as its file has it."""
        return json.loads((self.items / name).read_text())

    def rules(self) -> list[dict[str, Any]]:
        """The rules of the experiment."""
        (experiment,) = self.item(SPECS)["dynamic_configs"]
        return experiment["rules"]


@pytest.fixture
def desk(tmp_path: Path, loop: LoopThread, make_vendor: MakeVendor) -> Iterator[Desk]:
    """Two hosted vendors, and all callers assigned to Groq, its candidate to none."""
    items = Path(shutil.copytree(FOLDER, tmp_path / "items"))
    specs = json.loads((items / SPECS).read_text())
    specs["feature_gates"] = []
    for rule, bound in zip(specs["dynamic_configs"][0]["rules"], (1000, 1000, 1000), strict=True):
        rule["conditions"][0]["targetValue"] = bound
        rule["returnValue"] |= {"provider": rule["groupName"], "model": MODELS[rule["groupName"]]}
    (items / SPECS).write_text(json.dumps(specs))
    groq, deepinfra = make_vendor(), make_vendor()
    with ExitStack() as running:
        store = App(from_environ(ACCESS))
        kept = running.enter_context(served_site(Site(ROOT, store, endpoints(Files(items))), loop))
        environ = hosted_over(groq=groq, deepinfra=deepinfra)
        environ |= {"EDGE_CONFIG": f"{kept}/ecfg_local?token=local", "EDGE_CONFIG_FRESHNESS": "1"}
        app = App(from_environ(environ))
        site = running.enter_context(served_site(Site(ROOT, app, endpoints(Files(items), app.assignable)), loop))
        yield Desk(site, items, groq, deepinfra)


def open_control(page: Page, desk: Desk) -> None:
    """Open the page, then the form."""
    page.goto(desk.url)
    page.get_by_text("Control", exact=True).click()
    expect(page.get_by_role("group", name="Provider split")).to_be_visible()


def apply(page: Page) -> None:
    """Apply what is in the form, and wait until it is."""
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("status").filter(has_text="Applied. The next answer follows.")).to_be_visible()


def wait_until_followed(page: Page, condition: str) -> None:
    """Wait until the functions hold the items by which this is true of /api/flags."""
    page.evaluate(f"""async () => {{
        const follows = (it) => {condition};
        while (!follows(await (await fetch('/api/flags')).json())) await new Promise((again) => setTimeout(again, 50));
    }}""")


def ask(page: Page) -> dict[str, str]:
    """Ask something; the line under its answer."""
    page.get_by_label("Your prompt").fill("Hi")
    page.keyboard.press("Control+Enter")
    turn = page.locator(".turn").last
    expect(turn).to_have_attribute("data-state", "done")
    return dict(zip(*(turn.locator(f".facts {tag}").all_inner_texts() for tag in ("dt", "dd")), strict=True))


def test_split_decides_who_answers(desk: Desk, page: Page, complaints: list[str]) -> None:
    """With all callers moved from one arm to another, the next answer is the other's."""
    desk.groq.script(groq_words("Hello."))
    open_control(page, desk)
    assert ask(page)["Provider"] == "groq"
    page.get_by_label("Share of groq, in percent").fill("0")
    page.get_by_label("Share of deepinfra, in percent").fill("100")
    apply(page)
    assert [rule["conditions"][0]["targetValue"] for rule in desk.rules()] == [0, 1000, 1000]
    wait_until_followed(page, "Object.values(it.dynamic_configs)[0].value.provider === 'deepinfra'")
    answered = ask(page)
    assert (answered["Provider"], answered["Model"]) == ("deepinfra", MODELS["deepinfra"])
    assert complaints == []


def test_model_of_an_arm(desk: Desk, page: Page) -> None:
    """An arm gets another vendor's model, and its candidate goes: it would be asked of the wrong vendor."""
    open_control(page, desk)
    page.get_by_label("Model of groq").select_option(label="deepinfra · openai/gpt-oss-120b")
    apply(page)
    assert desk.rules()[0]["returnValue"] == {"provider": "deepinfra", "model": "openai/gpt-oss-120b"}
    wait_until_followed(page, "Object.values(it.dynamic_configs)[0].value.provider === 'deepinfra'")
    assert ask(page)["Provider"] == "deepinfra"


def test_parameters_steer_the_next_answer(desk: Desk, page: Page) -> None:
    """A temperature typed here is what the vendor is asked for; emptied, nobody asks for one. By the keyboard alone."""
    (desk.items / "ai_config.json").write_text('{"hedge": "off", "temperature": 0.2}')
    desk.groq.script(groq_words("Hello."), groq_words("Hello."))
    open_control(page, desk)
    temperature = page.get_by_label("temperature")
    expect(temperature).to_have_value("0.2")
    temperature.fill("1.5")
    page.get_by_label("voice_id").fill("JBFqnCBsd6RMkjVDRZzb")
    page.get_by_label("img_style").fill("ink on paper, 1920s")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Applied.")).to_be_visible()
    assert desk.item("ai_config.json") == {
        "hedge": "off",
        "temperature": 1.5,
        "voice_id": "JBFqnCBsd6RMkjVDRZzb",
        "img_style": "ink on paper, 1920s",
    }
    wait_until_followed(page, "it.parameters.temperature === 1.5")
    ask(page)
    assert desk.groq.requests[-1].body["temperature"] == 1.5
    temperature.fill("")
    apply(page)
    assert "temperature" not in desk.item("ai_config.json")
    wait_until_followed(page, "it.parameters.temperature === null")
    ask(page)
    assert "temperature" not in desk.groq.requests[-1].body


@pytest.mark.parametrize(
    ("field", "typed", "complaint"),
    [
        ("temperature", "3", "must be: number from 0 to 2"),
        ("temperature", "warm", "must be: number from 0 to 2"),
        ("max_tokens", "2.5", "must be: whole number from 1 to 16384"),
        ("voice_id", HOSTILE, "must be: id"),
        ("Share of groq, in percent", "50", "The shares make 50 %. They have to make 100 %."),
        ("Share of groq, in percent", "99.99", "A share is a number from 0 to 100, to a tenth at most."),
        ("Share of groq, in percent", "", "A share is a number from 0 to 100, to a tenth at most."),
    ],
)
def test_refused_in_place(desk: Desk, page: Page, field: str, typed: str, complaint: str) -> None:
    """What does not hold is marked where it was typed, with the reason, and no file is changed until it holds."""
    before = {file.name: file.read_text() for file in desk.items.iterdir()}
    open_control(page, desk)
    page.get_by_label(field).fill(typed)
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text(complaint)).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="Nothing was changed.")).to_be_visible()
    expect(page.get_by_label(field)).to_be_focused()
    expect(page.get_by_label(field)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label(field)).to_have_accessible_description(re.compile(re.escape(complaint)))
    assert {file.name: file.read_text() for file in desk.items.iterdir()} == before


def test_hostile_items_stay_text(desk: Desk, page: Page, complaints: list[str]) -> None:
    """Markup in the items' names and values is shown as it is, never as elements."""
    (desk.items / "ai_config.json").write_text(json.dumps({"img_style": HOSTILE, "<b>": 1, "constructor": None}))
    specs = desk.item(SPECS)
    specs["dynamic_configs"][0]["rules"][0]["groupName"] = HOSTILE
    specs["dynamic_configs"][0]["rules"][0]["returnValue"]["model"] = HOSTILE
    (desk.items / SPECS).write_text(json.dumps(specs))
    open_control(page, desk)
    expect(page.locator(".arm-name").first).to_have_text(HOSTILE)
    expect(page.locator(".arm select").first).to_have_value(json.dumps(["groq", HOSTILE], separators=(",", ":")))
    expect(page.get_by_label("img_style")).to_have_value(HOSTILE)
    expect(page.locator("#control img")).to_have_count(0)
    assert complaints == []


def test_an_edit_by_hand_meanwhile_is_kept(desk: Desk, page: Page) -> None:
    """What the form does not hold is as the files have it when it is applied; other arms are not written over."""
    open_control(page, desk)
    (desk.items / "ai_config.json").write_text('{"hedge": "auto"}')
    page.get_by_label("temperature").fill("1")
    apply(page)
    assert desk.item("ai_config.json") == {"hedge": "auto", "temperature": 1}
    specs = desk.item(SPECS)
    specs["dynamic_configs"][0]["rules"][2]["groupName"] = "mistral"
    (desk.items / SPECS).write_text(json.dumps(specs))
    page.get_by_label("temperature").fill("2")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("The experiment was edited meanwhile")).to_be_visible()
    assert desk.item(SPECS) == specs
    assert desk.item("ai_config.json") == {"hedge": "auto", "temperature": 1}


def test_an_experiment_that_is_more_than_shares_is_left_alone(desk: Desk, page: Page) -> None:
    """Rules with other conditions are not for this form, which says so; parameters can be changed all the same."""
    specs = desk.item(SPECS)
    specs["dynamic_configs"][0]["rules"][0]["conditions"][0]["type"] = "user_field"
    (desk.items / SPECS).write_text(json.dumps(specs))
    page.goto(desk.url)
    page.get_by_text("Control", exact=True).click()
    expect(page.get_by_text("edit its file by hand")).to_be_visible()
    page.get_by_label("temperature").fill("1")
    apply(page)
    assert desk.item(SPECS) == specs


def test_escape_closes_and_keeps_what_was_typed(desk: Desk, page: Page) -> None:
    """Escape closes the form and hands the focus back; what was typed and not applied is there again."""
    open_control(page, desk)
    page.get_by_label("temperature").fill("1.1")
    page.keyboard.press("Escape")
    expect(page.get_by_label("temperature")).to_be_hidden()
    expect(page.locator("#control > summary")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("temperature")).to_have_value("1.1")
    page.set_viewport_size({"width": 360, "height": 740})
    assert wider_than_page(page) == []
