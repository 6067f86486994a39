/* The sizes of a convolution, as they arrive, and how its accumulators leave. */
#ifndef MANDHELING_LAYER_H
#define MANDHELING_LAYER_H

#include "job.h"
#include "product.h"

#define MAX_DEPTH 131071 /* products of int8, at most 2^14 each, whose sum int32 always holds */

struct layer {
    int n, h, w, c_in, c_out, k_h, k_w, stride, pad_h, pad_w, dilation, groups;
    int h_out, w_out, ins, outs; /* ins, outs: channels of one group */
};

enum { LAYER_PARAMS = 12, STORE_PARAMS = 5 };

/* Parameters 0 .. 11: n, h, w, c_in, c_out, k_h, k_w, stride, pad_h, pad_w, dilation, groups. */
int layer_read(struct job *job, struct layer *layer);

/* Whether tensor 1 has the sizes of the weights; otherwise the job has failed. */
int layer_weights(struct job *job, const struct layer *layer);

/* Parameters at .. at + 4: whether to store INT8, rule, shift, low, high. */
int store_read(struct job *job, int at, int *bytes, struct store *store);

/* A sink of rows x columns for the whole job, and its output; kind by store_read. */
int sink_new(struct job *job, struct sink *sink, int bytes, const struct store *store,
             uint64_t elements, size_t row_stride);

/* Values amax, saturated, lost. */
void sink_values(struct job *job, const struct sink *sink);

int run_gemm(struct job *job);
int run_conv_forward(struct job *job);
int run_conv_input_grad(struct job *job);
int run_conv_weight_grad(struct job *job);

#endif
