"""Tests of lib/http."""
