"""The same cause has the same fingerprint, whatever varies by chance; other causes have others."""

from __future__ import annotations

from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.incidents.fingerprint import fingerprint, label_of, marked, marker_of, normalised

TEMPLATES = (
    "{time} Error: Cannot find module '{folder}/node_modules/left-pad' ({hash}) in {ms}ms at 0x{hex}",
    '[{clock}] Command "npm run build" exited with 1, deployment dpl_{id}, request {uuid}, pid {number}',
    "fatal: unable to access 'https://github.com/acme/web/?token={id}#{hex}': after {ms} ms, commit {hash}",
    "{folder}/lib/app.py: SyntaxError in build bld_{id}, took {seconds}s",
)
CAUSES = (
    "Error: Cannot find module 'left-pad'",
    "Error: Cannot find module 'right-pad'",
    'Command "npm run build" exited with 1',
    'Command "npm run build" exited with 2',
    'Command "npm install" exited with 1',
    "SyntaxError: invalid syntax in lib/app.py",
    "SyntaxError: invalid syntax in lib/cron.py",
    "Error: 404 Not Found: https://registry.npmjs.org/left-pad",
    "Error: 403 Forbidden: https://registry.npmjs.org/left-pad",
    "The function exceeds the size of 250 MB",
    "",
)


def variation(random: Random, template: str) -> str:
    """The same line of another run."""
    digits = "0123456789abcdef"
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"

    def some(alphabet: str, length: int) -> str:
        return "".join(random.choice(alphabet) for _ in range(length))

    return template.format(
        time=f"20{random.randrange(20, 40)}-{random.randrange(1, 13):02}-{random.randrange(1, 29):02}T"
        f"{random.randrange(24):02}:{random.randrange(60):02}:{random.randrange(60):02}.{random.randrange(1000):03}Z",
        clock=f"{random.randrange(24):02}:{random.randrange(60):02}:{random.randrange(60):02}.{random.randrange(1000):03}",
        folder=f"/{'tmp'}/{some(letters, 8)}" if random.random() < 0.5 else f"/vercel/path{random.randrange(10)}",
        hash="0a" + some(digits, random.choice((5, 38))),
        hex="1a" + some(digits, 8),
        id=some(letters, random.choice((12, 24))),
        uuid=UUID(int=random.getrandbits(128)),
        number=random.randrange(1000, 10**9),
        ms=random.randrange(1, 100_000),
        seconds=random.randrange(1, 900),
    )


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_thousand_variations_are_one(template: str) -> None:
    """Ids, hashes, times, numbers, folders and queries do not make another incident."""
    random = Random(20261122)  # noqa: S311 - the same lines each time
    lines = {variation(random, template) for _ in range(1000)}
    assert len(lines) > 990
    assert len({fingerprint("deploy", "deploy:prj_1:production", ("error", line)) for line in lines}) == 1


def test_distinct_causes_are_distinct() -> None:
    """Another error, code, exit status, file, project, target or kind is another incident."""
    prints = {fingerprint("deploy", "deploy:prj_1:production", ("error", cause)) for cause in CAUSES}
    prints |= {fingerprint("deploy", f"deploy:{project}", ("error", "")) for project in ("prj_2:preview", "prj_3:x")}
    prints |= {fingerprint(kind, "deploy:prj_1:production", ("error", "")) for kind in ("inference", "vendor")}
    assert len(prints) == len(CAUSES) + 4


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_parts_do_not_run_into_one_another(one: list[str], other: list[str]) -> None:
    """Two causes are the same when their parts are, one by one."""
    same = [*map(normalised, one)] == [*map(normalised, other)]
    assert (fingerprint("k", "s", one) == fingerprint("k", "s", other)) is same


@given(st.text())
def test_normalising_is_final(text: str) -> None:
    """What is normalised once stays as it is, and any text can be."""
    assert normalised(normalised(text)) == normalised(text)


def test_known_value() -> None:
    """The rules of version 1 are kept for as long as the version is: what is open would lose its issue."""
    assert fingerprint("deploy", "deploy:prj_1:production", ("error", "", "")) == "v1:fcb5cb932a73ef92"


@pytest.mark.parametrize("body", ["", "text", "<!-- blueprint:incident:v1:0123 -->", "{} and more"])
def test_marker(body: str) -> None:
    """The marker is found at the end of a body, and nowhere else."""
    print_ = fingerprint("deploy", "s", ())
    assert marked(f"{body}\n{marker_of(print_)}\n") == print_
    assert marked(body.format(marker_of(print_))) is None
    assert len(label_of(print_)) == 19
