"""Tests of lib/media."""
