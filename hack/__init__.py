"""What a release needs, and what `make generate` writes: run from the root as `python -m hack.NAME`."""
