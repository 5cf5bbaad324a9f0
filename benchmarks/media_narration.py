"""Reads standard input aloud, in the process that holds Piper; prints seconds of sound, and of the processor's time."""

from __future__ import annotations

import sys
import time

from local.audio import Encoder, joined
from local.narrator import Narrator

narrator = Narrator()
for _ in narrator.read("Warm.", 1.0):
    pass
began = time.process_time()
samples = joined(sentence.samples for sentence in narrator.read(sys.stdin.read(), 1.0))
Encoder("mp3_44100_128", narrator.rate).feed(samples, last=True)
print(len(samples) / narrator.rate, time.process_time() - began)
