"""The port to inference engines: `base` is the contract, one module an engine, `registry` chooses."""
