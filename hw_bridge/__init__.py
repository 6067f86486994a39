"""Floor 4: the same plans on real kernels. So far: HVX kernels in an emulator."""
