"""Adapters to the vendors: each knows its vendor's protocol and nothing of flags, telemetry, HTTP or storage."""
