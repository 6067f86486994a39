#include "layer.h"

#include "system.h"

/* Limits that keep every product of two of them in int32. */
enum { MOST_WINDOW = 1 << 10, MOST_PAD = 1 << 12, MOST_SIZE = 1 << 16 };

static int windows(int size, int k, int stride, int pad, int dilation)
{
    int room = size + 2 * pad - dilation * (k - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
}

int layer_read(struct job *job, struct layer *l)
{
    static const char *names[LAYER_PARAMS] = {"n",      "h",     "w",     "c_in",     "c_out", "k_h",
                                              "k_w",    "stride", "pad_h", "pad_w", "dilation",
                                              "groups"};
    int *fields[LAYER_PARAMS] = {&l->n,      &l->h,     &l->w,     &l->c_in,     &l->c_out, &l->k_h,
                                 &l->k_w,    &l->stride, &l->pad_h, &l->pad_w, &l->dilation,
                                 &l->groups};
    for (int i = 0; i < LAYER_PARAMS; i++) {
        int pad = i == 8 || i == 9, window = i == 5 || i == 6 || i == 7 || i == 10;
        int most = pad ? MOST_PAD : window ? MOST_WINDOW : MOST_SIZE;
        if (!job_check(job, i, pad ? 0 : 1, most, names[i]))
            return 0;
        *fields[i] = (int)job->params[i];
    }
    if (l->c_in % l->groups || l->c_out % l->groups)
        return job_fail(job, BAD_PARAMS, "groups is %d; allowed: a divisor of c_in and c_out",
                        (int64_t)l->groups);
    l->h_out = windows(l->h, l->k_h, l->stride, l->pad_h, l->dilation);
    l->w_out = windows(l->w, l->k_w, l->stride, l->pad_w, l->dilation);
    if (l->h_out < 1 || l->w_out < 1)
        return job_fail(job, BAD_PARAMS, "the window is larger than the padded input");
    l->ins = l->c_in / l->groups;
    l->outs = l->c_out / l->groups;
    /* Padded maps are addressed by int32 offsets. */
    int64_t places = (int64_t)l->n * (l->h + 2 * l->pad_h + l->k_h * l->dilation)
                     * (l->w + 2 * l->pad_w + l->k_w * l->dilation);
    if (places > MAX_ELEMENTS
        || places * (l->ins > l->outs ? l->ins + 8 : l->outs + 8) > MAX_ELEMENTS)
        return job_fail(job, BAD_PARAMS, "the padded map has more than 2^28 elements; split the batch");
    return 1;
}

int layer_weights(struct job *job, const struct layer *l)
{
    return job_expect(job, 1, INT8, (int64_t)l->c_out * l->k_h * l->k_w * l->ins, "w");
}

int store_read(struct job *job, int at, int *bytes, struct store *store)
{
    if (!job_check(job, at, 0, 1, "store") || !job_check(job, at + 1, 0, PSTO, "rule")
        || !job_check(job, at + 2, -31, 31, "shift") || !job_check(job, at + 3, -128, -1, "low")
        || !job_check(job, at + 4, 1, 127, "high"))
        return 0;
    const int64_t *p = job->params + at;
    *bytes = (int)p[0];
    *store = store_of((int)p[1], (int)p[2], (int)p[3], (int)p[4]);
    return 1;
}

int sink_new(struct job *job, struct sink *sink, int bytes, const struct store *store,
             uint64_t elements, size_t row_stride)
{
    memset(sink, 0, sizeof *sink);
    sink->kind = bytes ? TO_BYTES : TO_WORDS;
    sink->store = *store;
    sink->row_stride = row_stride;
    sink->out = job_output(job, bytes ? INT8 : INT32, elements);
    return sink->out != NULL;
}

void sink_values(struct job *job, const struct sink *sink)
{
    struct total total = sink_total(sink);
    job_value(job, total.amax);
    job_value(job, total.saturated);
    job_value(job, total.lost);
}
