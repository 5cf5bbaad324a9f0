"""get_completion: which provider answers, what happens when it fails, and what it took."""
