"""Which router may stand in front of the engines of a pack: what it does, and what it costs.

    make record router                                # both candidates, all points and figures, kept
    .venv/bin/python -m benchmarks.router --only haproxy

Everything is on loopback. docs/adr/0028-haproxy-is-the-router-in-a-pack.md has the table and what followed from it.
"""
