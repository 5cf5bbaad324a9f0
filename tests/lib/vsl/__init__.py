"""Tests of lib/vsl."""
