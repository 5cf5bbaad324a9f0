"""Stand-ins for the vendors at the network's edge."""
