/* Forward and input_grad: the same product over a padded map, whose rows are read where they lie. */
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
            memcpy(copy + (size_t)i * channels, own + (size_t)i * l->ins, l->ins);
        own = copy;
    }
    pack_depths(own, depth, depth, 0, l->outs, panels, panel);
    return 1;
}

/* The same weights for input_grad: columns are the inputs, the depth is the tap, turned by 180
   degrees, then the output channel. */
static void pack_turned(const struct layer *l, const int8_t *w, int group, int channels,
                        HVX_Vector *panels, size_t panel)
{
    int taps = l->k_h * l->k_w;
    const int8_t *own = w + (size_t)group * l->outs * taps * l->ins;
    for (int tap = 0; tap < taps; tap++)
        pack_columns(own + (size_t)(taps - 1 - tap) * l->ins, (size_t)taps * l->ins, l->outs,
                     channels, l->ins, 0x80, panels, panel, tap * channels);
}

static const int32_t *padded_bias(struct job *job, const struct layer *l, int group)
{
    int32_t *bias = job_zeros(job, round_up(l->outs, TILE_COLUMNS) * 4);
    if (bias)
        memcpy(bias, (int32_t *)job->in[2].data + group * l->outs, (size_t)l->outs * 4);
    return bias;
}

/* One group's product over the map m; the sink's output starts at its channels. */
static int run_group(struct job *job, const struct map *m, const HVX_Vector *panels, size_t panel,
                     int columns, struct sink *sink)
{
    struct gap *gaps = job_memory(job, (size_t)m->k_h * m->k_w * sizeof *gaps);
    if (!gaps)
        return 0;
    struct product product = {m->rows, columns, m->starts, panels, panel, gaps, 0, 0};
    product.runs = map_runs(m, gaps, &product.steps);
    sink->rows = m->sums;
    product_run(&product, sink, &job->team);
    return 1;
}

static int check_weights(struct job *job, const struct layer *l)
{
    int64_t taps = (int64_t)l->k_h * l->k_w;
    return job_expect(job, 1, INT8, l->c_out * taps * l->ins, "w");
}

int run_conv_forward(struct job *job)
{
    struct layer l;
    struct store store;
    struct sink sink;
    int bytes;
    if (!layer_read(job, &l) || !store_read(job, LAYER_PARAMS, &bytes, &store)
        || !check_weights(job, &l)
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
        if (job->status || !run_group(job, &map, panels, panel, l.outs, &sink))
            return 0;
        job_release(job, held);
    }
    sink_values(job, &sink);
    return 1;
}

int run_conv_input_grad(struct job *job)
{
    struct layer l;
    struct store store;
    struct sink sink;
    int bytes;
    if (!layer_read(job, &l) || !store_read(job, LAYER_PARAMS, &bytes, &store)
        || !check_weights(job, &l)
        || !job_expect(job, 0, INT8, (int64_t)l.n * l.h_out * l.w_out * l.c_out, "e"))
        return 0;
    int channels = (int)round_up(l.outs, DEPTH_STEP), taps = l.k_h * l.k_w;
    size_t panel = (size_t)taps * channels / 2;
    if ((int64_t)taps * channels > MAX_DEPTH)
        return job_fail(job, BAD_PARAMS, "the depth is %d; allowed: %d", (int64_t)taps * channels,
                        (int64_t)MAX_DEPTH);
    if (!sink_new(job, &sink, bytes, &store, (uint64_t)l.n * l.h * l.w * l.c_in, l.c_in))
        return 0;
    char *out = sink.out;
    HVX_Vector *panels = job_memory(job, (uint64_t)round_up(l.ins, TILE_COLUMNS) * panel * 2);
    struct map map = map_input_grad(&l, channels);
    if (!panels || !map_open(job, &map))
        return 0;
    for (int g = 0; g < l.groups; g++) {
        size_t held = job->held;
        if (!map_fill(job, &map, job->in[0].data, l.c_out, g * l.outs, l.outs))
            return 0;
        pack_turned(&l, job->in[1].data, g, channels, panels, panel);
        sink.out = out + (size_t)g * l.ins * (bytes ? 1 : 4);
        if (!run_group(job, &map, panels, panel, l.ins, &sink))
            return 0;
        job_release(job, held);
    }
    sink_values(job, &sink);
    return 1;
}
