"""A whole pack served in one container: `python -m slm_runtime serve`.

Starts R engines on one device under the limits under which they were measured, by the same command writer, engine process
and MPS daemon, and keeps them: `plan` decides (pure, over the words of `pack`), `supervisor` does, `init` is the process
that nothing outlives. Knows nothing of Kubernetes: it runs on any machine with a GPU, or without one. Must never choose
what to serve: batch, KV bytes, engines and mode are given.
"""
