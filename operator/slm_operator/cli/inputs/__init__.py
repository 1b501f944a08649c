"""What a command is asked about: files, manifests, and deployments of the cluster."""
