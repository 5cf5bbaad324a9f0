"""The tests; they mirror lib/, api/ and local/."""
