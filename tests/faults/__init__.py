"""The public fault suite, and our own matrix of faults, through real sockets."""
