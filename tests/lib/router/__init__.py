"""Tests of lib/router."""
