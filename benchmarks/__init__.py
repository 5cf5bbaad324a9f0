"""Measurements: each compares things side by side in one run; only the ratios carry over to another machine."""
