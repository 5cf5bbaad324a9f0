"""Pictures and speech: who is asked, what it costs, where it is kept."""
