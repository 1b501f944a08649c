"""What to do next, as pure functions of what is seen. Every action carries its `because`."""
