"""The search: which points to measure, on which engines, and when to stop.

    next_step (pure) -> step -> rig (effects) -> outcome -> findings -> next_step ...

`steps` holds the values, `next_step` the decisions; what runs them (`slm_runtime.search_loop`) is no business of the core. The
operator asks the same decisions what a document still lacks (`continuation`).
"""
