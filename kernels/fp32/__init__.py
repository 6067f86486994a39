"""FP32 training kernels, channels-last: the same bits for every number of threads."""
