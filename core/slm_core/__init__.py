"""Nouns and laws that the profiler and the operator share. Standard library only, and nothing of ours: it travels in the zipapp."""
