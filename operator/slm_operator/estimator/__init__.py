"""What can be said of a model on a GPU before anything is measured. Pure, and never taken for a measurement."""
