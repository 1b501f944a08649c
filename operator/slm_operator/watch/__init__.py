"""What the operator has seen: raw objects in, small records out, in caches that know when they are complete."""
