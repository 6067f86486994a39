"""What HVX kernels cost in packets: their loops, and laws with a coefficient per loop."""
