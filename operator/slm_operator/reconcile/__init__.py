"""The loop: keyed queue, gather, plan (called, not made, here), execute, report."""
