"""What leaves a cluster in an archive, and how it is written."""
