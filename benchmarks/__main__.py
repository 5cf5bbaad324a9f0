"""`make bench`: the measurements that need no peers, one after another."""

from __future__ import annotations

from benchmarks import chunks, control, flags, imports, latency
from benchmarks.tools import on_other_cores

with on_other_cores():
    for measure in (
        latency.measure,
        chunks.measure,
        chunks.beside_the_sdk,
        flags.measure,
        control.measure,
        imports.measure,
    ):
        print(f"{measure()}\n", flush=True)
