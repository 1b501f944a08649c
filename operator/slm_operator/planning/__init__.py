"""Pure functions that decide the next actions from observed state. Every action carries its reason (`because`)."""
