/* Every kernel by its number; hw_bridge/hexagon/protocol.py has the same table. */
#include "rescale.h"

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
    {5, "amax", 0, 1, run_amax},
    {6, "requantise", STORE_PARAMS, 1, run_requantise},
    {7, "rescale", RULE_PARAMS, 1, run_rescale},
    {8, "relu_forward", 0, 1, run_relu_forward},
    {9, "relu_input_grad", 1, 2, run_relu_input_grad},
    {10, "max_pool_forward", 11, 1, run_max_pool_forward},
    {11, "max_pool_input_grad", 11, 2, run_max_pool_input_grad},
    {12, "add", -1, -1, run_add},
    {13, "transpose", 3, 1, run_transpose},
    {14, "to_d32", 4, 1, run_to_d32},
    {15, "from_d32", 4, 1, run_from_d32},
    {16, "rotate180", 3, 1, run_rotate180},
    {17, "niti_update", 1, 2, run_niti_update},
    {18, "wide_update", 5, 3, run_wide_update},
};

const int KERNEL_COUNT = sizeof KERNELS / sizeof *KERNELS;
