"""Who gets which provider, with which parameters."""
