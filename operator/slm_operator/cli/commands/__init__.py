"""One module per command of `kubectl slm`."""
