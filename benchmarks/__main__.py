"""`make bench`: all measurements, one after another."""

from __future__ import annotations

from benchmarks import chunks, control, imports, latency

for module in (latency, chunks, control, imports):
    print(f"{module.measure()}\n", flush=True)
