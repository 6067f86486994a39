"""Floor 4: the same plans on real kernels (no backend yet)."""
