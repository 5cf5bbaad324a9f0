"""Tests of lib/providers."""
