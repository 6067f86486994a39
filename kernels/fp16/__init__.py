"""16-bit floating point: IEEE binary16 and bfloat16, with the sums of microcontroller kernels.

Arrays carry values of a format as float32: every one of them is a float32 value, so comparisons,
copies and views need no kernels of their own. :func:`kernels.fp16.formats.encode` gives the bits.
"""
