"""Failures become one GitHub issue each: opened, counted, reopened and closed as what causes it comes and goes.

Any part of the product may say that something is wrong, and that it is well again:

    await app.incidents.open(Failure("rollout", "rollout:groq_r1_v_production", "…title…", cause=("rolled_back",)), …)
    await app.incidents.resolve("rollout:groq_r1_v_production")

`Incidents` (incidents.py) keeps it as a row and tells GitHub; what is told next is decided by `next_step` (steps.py).
"""
