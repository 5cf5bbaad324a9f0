"""`make bench`: all measurements, one after another."""

from __future__ import annotations

from benchmarks import chunks, control, flags, imports, latency

for module in (latency, chunks, flags, control, imports):
    print(f"{module.measure()}\n", flush=True)
