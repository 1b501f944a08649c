"""Types and rules that the profiler and the operator share.

It uses the standard library only and imports no other package of ours, because it travels in the zipapp.
"""
