"""The search: which points to measure, on which engines, and when to stop.

    next_step (pure) -> step -> rig (effects) -> outcome -> findings -> next_step ...

`steps` holds the values and the rig's contract, `next_step` the decisions, `loop` runs them.
"""
