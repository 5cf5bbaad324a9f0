"""Writes docs/faults.md: `python -m tests.faults.write_docs` runs the public suite and lists the tests of our rows.

The figures of the embedded model are those that tests/faults/seams.py measured last.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from tests.conftest import ROOT
from tests.fakes.loop import LoopThread
from tests.faults.bench import CASES, EXPECTED, FULL, POLICIES, Verdict, score, warm_up
from tests.faults.seams import HABITS, MAX_TOKENS, PLACES, SEED, kept

FILE = ROOT / "docs" / "faults.md"
AT_ONCE = 12
"""The slow cases wait beside each other; the quick ones follow, a few at a time, so that none waits for a processor."""
ROWS = (
    "faults/test_fault_rows.py",
    "faults/test_fault_flags.py",
    "api/test_vercel_runtime.py",
    "api/test_fault_data.py",
    "api/test_dashboard.py",
    "browser/test_dashboard.py",
    "api/test_money.py",
    "lib/data/test_assets.py",
    "lib/data/test_remote.py",
    "api/test_deploy_webhook.py",
    "api/test_incidents.py",
    "api/test_rollout.py",
    "db/test_incidents.py",
    "db/test_incident_life.py",
    "api/test_fault_media.py",
    "api/test_fault_letters.py",
    "lib/vsl/test_pipeline.py",
    "lib/vsl/test_compose.py",
    "lib/vsl/test_ffmpeg.py",
    "lib/vsl/test_captions.py",
    "lib/vsl/test_brief.py",
    "lib/vsl/test_hostile.py",
)
"""The files that hold tests of our rows."""
ACROSS_LINES = re.MULTILINE | re.DOTALL
VERDICTS: tuple[Verdict, ...] = ("pass", "partial", "safe", "fail")
HEAD = """\
# Faults

What happens when providers, flags or event sinks fail, held by tests through real sockets. This file is generated:
`python -m tests.faults.write_docs`.

## The public failover suite

Its 16 byte patterns, each called through `POST /api/generate` as a UI message stream and scored by its own rules on
what the caller got and on what the provider saw. The table is of profile `full`, the published one; the tests hold it
in profile `fast` (shorter silences, the same limits). This is our own replay of its cases, not an entry on its
published card.

"""
LEGEND = """
pass: the whole answer and every check. partial: the whole answer, but an advisory check did not hold. safe: a clear
error. fail: anything else. By default a provider that fails before its first token is left at once, since the next one
answers sooner; the suite would rather see the same one asked again, which `honour_retry_after` does.

## The embedded model, continued by itself

How often a seam can be proven depends on the model. For the small one that `make run` brings it is measured: {answers}
answers of it (greedy, up to {tokens} tokens), each cut at {places} places drawn with the seed {seed}, by FIN or reset,
and continued by the same model through `POST /api/generate`. `python -m tests.faults.seams` does it (five minutes; last
on {measured}), and `tests/faults/test_seams.py` holds what follows from it.

| Asked to go on | Seams proven | Word for word as without the cut |
| --- | --- | --- |
{shares}

Prefix: from its own unfinished message; this is why the catalogue has it as `continues_prefix`. Anchor: by repeating
the end of what was delivered, as every model is asked of which that is not known. Each seam that was not proven ended
in the explicit error, or in a reset and a fresh answer where the caller had asked for that; each proven one gave what
was delivered and then what was new, every character once. A model that only repeats what there was and stops counts as
unproven: its end shows nothing of the answer's.

## Our own matrix

| Row | Promise | Test |
| --- | --- | --- |
"""


def render(scores: Mapping[str, Mapping[str, Verdict]]) -> str:
    """The file's text for these verdicts, by policy and case."""
    lines = [f"| Case | Fault | {' | '.join(scores)} |", f"| --- | --- |{' --- |' * len(scores)}"]
    lines += [
        f"| {case.id} | {case.title} | {' | '.join(verdicts[case.id] for verdicts in scores.values())} |"
        for case in CASES
    ]
    sums = (Counter(verdicts.values()) for verdicts in scores.values())
    totals = (" / ".join(str(found[verdict]) for verdict in VERDICTS) for found in sums)
    lines.append(f"| | {' / '.join(VERDICTS)} | {' | '.join(totals)} |")
    sources = [(ROOT / "tests" / file).read_text() for file in ROWS]
    tests = [
        (int(row), promise, name)
        for source in sources
        for name, row, promise in re.findall(r'^def (test_fault_(\d\d)_\w+)\(.*?"""(.*?)"""', source, ACROSS_LINES)
    ]
    rows = [f"| {row} | {promise} | `{name}` |" for row, promise, name in sorted(tests, key=lambda test: test[0])]
    return HEAD + "\n".join(lines) + "\n" + _legend() + "\n".join(rows) + "\n"


def _legend() -> str:
    figures = kept()
    table = [
        f"| {habit} | {figures.proven[habit]} of {figures.cuts} | {figures.word_for_word[habit]} |" for habit in HABITS
    ]
    return LEGEND.format(
        answers=figures.answers,
        tokens=MAX_TOKENS,
        places=PLACES,
        seed=SEED,
        measured=figures.measured,
        shares="\n".join(table),
    )


def main() -> None:
    """Run everything, which takes a minute and a half, and write the file."""
    keys = [(policy, case) for case in sorted(CASES, key=lambda case: not case.is_slow) for policy in POLICIES]
    with closing(LoopThread()) as loop, ThreadPoolExecutor(AT_ONCE) as pool:
        warm_up(loop)
        running = {(policy, case.id): pool.submit(score, case, policy, loop, FULL) for policy, case in keys}
        scores: dict[str, dict[str, Verdict]] = {policy: {} for policy in POLICIES}
        for (policy, case_id), future in running.items():
            scores[policy][case_id] = future.result().verdict
    FILE.write_text(render(scores))
    print("as expected" if scores == EXPECTED else scores)  # noqa: T201 - for who runs it


if __name__ == "__main__":
    main()
