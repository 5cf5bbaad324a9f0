"""What composing a video costs, beside encoding its frames alone and beside moviepy."""
