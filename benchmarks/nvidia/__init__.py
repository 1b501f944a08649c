"""The operator against NVIDIA's stack as it was seen: the ten cases, by installer and release (`make record nvidia`)."""
