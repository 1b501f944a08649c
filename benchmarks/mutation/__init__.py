"""Would a test notice? Mutants of the code that decides, by mutmut, in a temporary copy."""
