/* Every kernel by its number; hw_bridge/hexagon/protocol.py has the same table. */
#include "layer.h"

static int run_info(struct job *job)
{
    job_value(job, __HEXAGON_ARCH__);
    job_value(job, VLEN);
    job_value(job, MAX_THREADS);
    return 1;
}

const struct kernel KERNELS[] = {
    {0, "info", 0, 0, run_info},
    {1, "gemm", 3 + STORE_PARAMS, 2, run_gemm},
    {2, "conv_forward", LAYER_PARAMS + STORE_PARAMS, 3, run_conv_forward},
    {3, "conv_input_grad", LAYER_PARAMS + STORE_PARAMS, 2, run_conv_input_grad},
    {4, "conv_weight_grad", LAYER_PARAMS, 3, run_conv_weight_grad},
};

const int KERNEL_COUNT = sizeof KERNELS / sizeof *KERNELS;
