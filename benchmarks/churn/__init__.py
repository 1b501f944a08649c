"""A cluster that never rests, watched from outside: what must hold, and the operator's memory."""
