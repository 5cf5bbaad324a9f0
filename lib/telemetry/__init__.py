"""What every call took and cost."""
