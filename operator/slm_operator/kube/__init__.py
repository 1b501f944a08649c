"""The Kubernetes API as this operator uses it: one connection, few verbs, typed errors. Knows none of our kinds."""
