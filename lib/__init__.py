"""The shared library behind the functions in api/."""
