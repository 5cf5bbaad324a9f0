"""The JavaScript clients that people use read our answers, in Node (tests/js)."""
