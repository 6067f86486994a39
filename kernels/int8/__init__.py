"""INT8 training kernels: channels-last arrays in, arrays out, exact to the last bit."""
