"""Tests of the sales letters."""
