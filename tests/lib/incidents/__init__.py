"""Tests of lib/incidents."""
