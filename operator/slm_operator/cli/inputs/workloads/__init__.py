"""Workloads of others that run an engine: from an object as it is written to one `RunningEngine`, a file each kind.

`registry` has the kinds. What a word of a command line means is for the engine's port to say, never for a kind.
"""
