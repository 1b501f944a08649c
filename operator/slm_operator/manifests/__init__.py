"""One pure builder per object: typed values in, a manifest out. Everything here must come out the same on every run."""
