/* Whole tensors of accumulators to INT8, and the rule of a numeric profile that gives the shift
   (RescaleRule of kernels/profiles.py). */
#ifndef MANDHELING_RESCALE_H
#define MANDHELING_RESCALE_H

#include "layer.h"

#define DROPPED 31 /* a shift that turns every value of magnitude 1 and below into 0 */

enum small { CAST, CLIP, SCALE_UP };

struct rescale_rule {
    int rounding, bits, low, high, small, one_becomes, drop_unit;
};

enum { RULE_PARAMS = 7 };

/* Parameters at .. at + 6, in the order of the fields. */
int rule_read(struct job *job, int at, struct rescale_rule *rule);
int rule_shift(const struct rescale_rule *rule, int64_t amax);

int64_t scan_words(struct job *job, const int32_t *from, int count);
struct total shift_words(struct job *job, const int32_t *from, int8_t *to, int count,
                         const struct store *store);
struct total cast_words(struct job *job, const int32_t *from, int8_t *to, int count);

int run_amax(struct job *job);
int run_requantise(struct job *job);
int run_rescale(struct job *job);
int run_relu_forward(struct job *job);
int run_relu_input_grad(struct job *job);
int run_max_pool_forward(struct job *job);
int run_max_pool_input_grad(struct job *job);
int run_add(struct job *job);
int run_transpose(struct job *job);
int run_to_d32(struct job *job);
int run_from_d32(struct job *job);
int run_rotate180(struct job *job);
int run_niti_update(struct job *job);
int run_wide_update(struct job *job);

#endif
