"""The search for a batch size, held against exhaustive sweeps in virtual time."""
