"""The real engine in a Deployment that is not ours: an exhaustive sweep beside the advice, its counters beside what is expected."""
