/* Forward: a product over a padded map, whose rows are read where they lie. */
#include "border.h"
#include "layer.h"
#include "pack.h"

#include "system.h"

/* Weights (c_out, k_h, k_w, ins) of one group as panels of its outputs; the depth is tap, then
   channel, each channel run padded to a multiple of 8. */
static int pack_forward(struct job *job, const struct layer *l, const int8_t *w, int group,
                        int channels, HVX_Vector *panels, size_t panel)
{
    int taps = l->k_h * l->k_w, depth = taps * channels;
    const int8_t *own = w + (size_t)group * l->outs * taps * l->ins;
    if (channels != l->ins) {
        int8_t *copy = job_zeros(job, (uint64_t)l->outs * depth);
        if (!copy)
            return 0;
        for (int i = 0; i < l->outs * taps; i++)
            copy_bytes(copy + (size_t)i * channels, own + (size_t)i * l->ins, l->ins);
        own = copy;
    }
    pack_depths(own, depth, depth, 0, l->outs, panels, panel);
    return 1;
}

static const int32_t *padded_bias(struct job *job, const struct layer *l, int group)
{
    int32_t *bias = job_zeros(job, round_up(l->outs, TILE_COLUMNS) * 4);
    if (bias)
        memcpy(bias, (int32_t *)job->in[2].data + group * l->outs, (size_t)l->outs * 4);
    return bias;
}

int run_conv_forward(struct job *job)
{
    struct layer l;
    struct store store;
    struct sink sink;
    int bytes;
    if (!layer_read(job, &l) || !store_read(job, LAYER_PARAMS, &bytes, &store)
        || !layer_weights(job, &l)
        || !job_expect(job, 0, INT8, (int64_t)l.n * l.h * l.w * l.c_in, "x")
        || !job_expect(job, 2, INT32, job->in[2].elements ? l.c_out : 0, "bias"))
        return 0;
    int64_t outputs = (int64_t)l.n * l.h_out * l.w_out * l.c_out;
    int channels = (int)round_up(l.ins, DEPTH_STEP), taps = l.k_h * l.k_w;
    size_t panel = (size_t)taps * channels / 2;
    if ((int64_t)taps * channels > MAX_DEPTH)
        return job_fail(job, BAD_PARAMS, "the depth is %d; allowed: %d", (int64_t)taps * channels,
                        (int64_t)MAX_DEPTH);
    if (!sink_new(job, &sink, bytes, &store, outputs, l.c_out))
        return 0;
    char *out = sink.out;
    HVX_Vector *panels = job_memory(job, (uint64_t)round_up(l.outs, TILE_COLUMNS) * panel * 2);
    struct map map = map_forward(&l, channels);
    if (!panels || !map_open(job, &map))
        return 0;
    for (int g = 0; g < l.groups; g++) {
        size_t held = job->held;
        if (!map_fill(job, &map, job->in[0].data, l.c_in, g * l.ins, l.ins)
            || !pack_forward(job, &l, job->in[1].data, g, channels, panels, panel))
            return 0;
        sink.columns = job->in[2].elements ? padded_bias(job, &l, g) : NULL;
        sink.out = out + (size_t)g * l.outs * (bytes ? 1 : 4);
        if (job->status || !map_product(job, &map, panels, panel, l.outs, &sink))
            return 0;
        job_release(job, held);
    }
    sink_values(job, &sink);
    return 1;
}
