"""Floor 4: the same plans on real kernels."""
