"""The edge: what comes in is checked, what goes out has the form its reader expects."""
