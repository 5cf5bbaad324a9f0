"""The shared library behind the functions in api/."""

from __future__ import annotations

__version__ = "0.1.0"
