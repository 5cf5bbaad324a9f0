"""What LiteLLM's proxy adds to a call, by the same measure as the handler."""

from __future__ import annotations

from benchmarks import latency
from benchmarks.client import call_in_turns
from benchmarks.report import Section
from benchmarks.router import peers
from benchmarks.servers import direct
from benchmarks.tools import running_upstream

ROUNDS = 200


def measure() -> Section:
    """The handler's table, and LiteLLM in turns with the vendor itself."""
    section = latency.measure()
    with running_upstream() as upstream, peers.litellm(upstream) as proxy:
        times = call_in_turns((direct(upstream), proxy.target), ROUNDS)
    theirs = latency.added(times, proxy.target.name)
    section.rows.append(("added by LiteLLM proxy", *theirs))
    least = section.rows[1][1:]
    section.rows.append(("its ratio", *(value / float(floor or 1) for value, floor in zip(theirs, least, strict=True))))
    return section
