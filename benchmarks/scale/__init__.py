"""Hundreds of deployments on a real control plane: how soon all are settled, and at what cost."""
