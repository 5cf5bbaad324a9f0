"""Hypertune's expression language."""
