"""Tests of lib/, file by file."""
