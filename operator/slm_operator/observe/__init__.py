"""What is seen of the cluster: raw objects in, small frozen records out, kept in caches that know when they are complete."""
