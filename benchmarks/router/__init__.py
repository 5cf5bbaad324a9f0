"""`make bench-router`: the router and the whole handler beside their floors and their peers, in one run."""
