"""One node: its observed state, and the next step towards its target."""
