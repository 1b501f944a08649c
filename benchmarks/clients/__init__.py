"""The load generator: beside those of others, and what it costs."""
