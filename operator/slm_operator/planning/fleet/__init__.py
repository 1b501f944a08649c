"""Plans for all nodes together: who gets which GPUs, shared how."""
