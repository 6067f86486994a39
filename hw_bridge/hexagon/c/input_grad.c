/* Input_grad. Input i gets error o through tap k where i + pad = stride o + dilation k. So inputs
   whose i + pad leave the same rest see the same taps: each such phase is a dense product of stride
   1 over the errors, with the weights of its own taps, turned. No zero between errors is
   multiplied; a stride of 1 has one phase. */
#include "border.h"
#include "layer.h"
#include "pack.h"

#include "system.h"

/* One phase along one axis. */
struct phase {
    int tap, step, taps; /* its taps: tap, tap + step, ... */
    int apart, reach;    /* errors from one of its taps to the next; from place to farthest error */
    int first, places;   /* its inputs: first, first + stride, ... */
    int top;             /* where error 0 lies in the map that its windows start in */
};

struct axis {
    int size, k, stride, pad, dilation;
};

/* All phases of an axis. Quotients and rests are carried along: a division costs a hundred packets. */
static struct phase *axis_phases(struct job *job, const struct axis *a)
{
    struct phase *phases = job_zeros(job, (uint64_t)a->stride * sizeof *phases);
    if (!phases)
        return NULL;
    int whole = a->dilation / a->stride, rest = a->dilation - whole * a->stride;
    for (int tap = 0, errors = 0, at = 0; tap < a->k; tap++) {
        struct phase *p = &phases[at];
        if (p->taps == 0)
            p->tap = tap;
        if (p->taps == 1) {
            p->step = tap - p->tap;
            p->apart = errors - p->reach;
        }
        p->taps++;
        p->reach = errors;
        errors += whole;
        at += rest;
        if (at >= a->stride) {
            at -= a->stride;
            errors++;
        }
    }
    int padded = a->pad / a->stride, behind = a->pad - padded * a->stride;
    int most = (a->size - 1) / a->stride, last = a->size - 1 - most * a->stride;
    for (int at = 0; at < a->stride; at++) {
        struct phase *p = &phases[at];
        p->first = at - behind + (at < behind ? a->stride : 0);
        p->places = most + (p->first <= last);
        p->top = p->reach - padded - (at < behind);
        if (p->taps == 1) /* a window of one: nothing lies apart */
            p->apart = 1;
    }
    return phases;
}

static struct map map_phase(const struct layer *l, const struct phase *y, const struct phase *x,
                            int channels)
{
    /* Runs of a window join its columns where they touch, which one dilation says for both axes. */
    return (struct map){
        .n = l->n, .height = l->h_out, .width = l->w_out, .top = y->top, .left = x->top,
        .rows_h = y->places + y->apart * (y->taps - 1),
        .rows_w = x->places + x->apart * (x->taps - 1), .channels = channels,
        .out_h = y->places, .out_w = x->places, .stride = 1,
        .dilation = y->taps > 1 ? y->apart : x->apart, .k_h = y->taps, .k_w = x->taps,
    };
}

/* Weights (c_out, k_h, k_w, ins) of one group: columns are the inputs, the depth is the phase's
   tap, turned by 180 degrees, then the output channel. */
static void pack_turned(const struct layer *l, const int8_t *w, const struct phase *y,
                        const struct phase *x, int channels, HVX_Vector *panels, size_t panel)
{
    size_t all = (size_t)l->k_h * l->k_w * l->ins;
    for (int i = y->taps - 1, at = 0; i >= 0; i--)
        for (int j = x->taps - 1; j >= 0; j--, at += channels) {
            int tap = (y->tap + i * y->step) * l->k_w + x->tap + j * x->step;
            pack_columns(w + (size_t)tap * l->ins, all, l->outs, channels, l->ins, 0x80, panels,
                         panel, at);
        }
}

/* Where the output has the places of a phase. */
static const int32_t *phase_places(struct job *job, const struct layer *l, const struct phase *y,
                                   const struct phase *x)
{
    int32_t *places = job_memory(job, (uint64_t)l->n * y->places * x->places * 4), *to = places;
    for (int n = 0; places && n < l->n; n++)
        for (int i = 0; i < y->places; i++) {
            int line = (n * l->h + y->first + i * l->stride) * l->w + x->first;
            for (int j = 0; j < x->places; j++, line += l->stride)
                *to++ = line * l->c_in;
        }
    return places;
}

static int run_phase(struct job *job, const struct layer *l, const struct phase *y,
                     const struct phase *x, struct sink *sink, int element)
{
    int channels = (int)round_up(l->outs, DEPTH_STEP);
    size_t panel = (size_t)y->taps * x->taps * channels / 2;
    HVX_Vector *panels = job_memory(job, (uint64_t)round_up(l->ins, TILE_COLUMNS) * panel * 2);
    struct map map = map_phase(l, y, x, channels);
    if (l->stride > 1 && !(sink->places = phase_places(job, l, y, x)))
        return 0;
    if (!panels || !map_open(job, &map))
        return 0;
    char *out = sink->out;
    const int8_t *w = job->in[1].data;
    for (int g = 0; g < l->groups; g++, w += (size_t)l->outs * l->k_h * l->k_w * l->ins) {
        size_t held = job->held;
        if (!map_fill(job, &map, job->in[0].data, l->c_out, g * l->outs, l->outs))
            return 0;
        pack_turned(l, w, y, x, channels, panels, panel);
        sink->out = out + (size_t)g * l->ins * element;
        if (!map_product(job, &map, panels, panel, l->ins, sink))
            return 0;
        job_release(job, held);
    }
    sink->out = out;
    return 1;
}

int run_conv_input_grad(struct job *job)
{
    struct layer l;
    struct store store;
    struct sink sink;
    int bytes;
    if (!layer_read(job, &l) || !store_read(job, LAYER_PARAMS, &bytes, &store)
        || !layer_weights(job, &l)
        || !job_expect(job, 0, INT8, (int64_t)l.n * l.h_out * l.w_out * l.c_out, "e"))
        return 0;
    int64_t depth = (int64_t)l.k_h * l.k_w * round_up(l.outs, DEPTH_STEP);
    if (depth > MAX_DEPTH)
        return job_fail(job, BAD_PARAMS, "the depth is %d; allowed: %d", depth, (int64_t)MAX_DEPTH);
    uint64_t inputs = (uint64_t)l.n * l.h * l.w * l.c_in;
    if (!sink_new(job, &sink, bytes, &store, inputs, l.c_in))
        return 0;
    struct phase *rows = axis_phases(job, &(struct axis){l.h, l.k_h, l.stride, l.pad_h, l.dilation});
    struct phase *columns =
        axis_phases(job, &(struct axis){l.w, l.k_w, l.stride, l.pad_w, l.dilation});
    if (!rows || !columns)
        return 0;
    int element = bytes ? 1 : 4;
    if (l.stride > l.k_h || l.stride > l.k_w || l.dilation > 1) /* some inputs may see no error */
        memset(sink.out, 0, inputs * element);
    for (int y = 0; y < l.stride; y++)
        for (int x = 0; x < l.stride; x++) {
            size_t held = job->held;
            if (rows[y].taps && rows[y].places > 0 && columns[x].taps && columns[x].places > 0
                && !run_phase(job, &l, &rows[y], &columns[x], &sink, element))
                return 0;
            job_release(job, held);
        }
    sink_values(job, &sink);
    return 1;
}
