"""What one deployment wants of the fleet, from its spec and its advice."""
