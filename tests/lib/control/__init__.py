"""Tests of lib/control."""
