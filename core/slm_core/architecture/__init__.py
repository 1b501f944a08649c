"""Sizes of models, from what lies beside their weights: `read_architecture`. Pure; the standard library only."""

from slm_core.architecture.fields import ConfigError
from slm_core.architecture.sizes import Architecture, longest_sequence, read_architecture

__all__ = ["Architecture", "ConfigError", "longest_sequence", "read_architecture"]
