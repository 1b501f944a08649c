"""One node: what it shows, and the next step to what it shall be."""
