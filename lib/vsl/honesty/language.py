"""What a language brings to the check of claims."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from lib.vsl.honesty.quantities import Words

Kind = Literal["number", "price", "name", "quote", "scarcity", "guarantee", "superlative", "medical", "attribute"]
BY_WORDS = frozenset({"superlative", "medical", "attribute", "name", "number"})
"""Kinds whose very words must stand in the brief; of the others it is enough that the brief makes such a claim."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Words that make a claim of a kind. Matched against text in lower case and without accents."""

    kind: Kind
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Language:
    """Numbers, words of claims, and what is none although it looks like one.

    `names` are capitalised words that name nobody. `quiet` words say nothing of their own in a promise. `says` are
    verbs that report what somebody said. `single` words mean one and no more.
    """

    words: Words
    rules: tuple[Rule, ...]
    names: frozenset[str]
    quiet: frozenset[str]
    says: re.Pattern[str]
    single: frozenset[str]


def rules(*told: tuple[Kind, str]) -> tuple[Rule, ...]:
    """Rules from their kinds and patterns; a pattern begins and ends with whole words."""
    return tuple(Rule(kind, re.compile(rf"(?<!\w)(?:{pattern})(?!\w)")) for kind, pattern in told)
