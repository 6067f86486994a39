/* dW: over samples and places, the error times the input that a tap saw there.

   The batch is the depth: both operands are laid out with the samples innermost, so that a tap is
   a shift by whole steps of the depth. The input is packed like columns (with its border, whose
   zeros are packed like any value), the errors are transposed to rows of bytes. */
#include "border.h"
#include "layer.h"
#include "pack.h"

#include "system.h"

struct grad {
    const struct layer *l;
    int depth;         /* samples, rounded up to a step */
    int rows_h, rows_w; /* bordered map */
    HVX_Vector *panels; /* inputs: [channels / 64][place][depth / 4][64][4] */
    size_t panel;
    int8_t *errors;     /* [channel][place][depth] */
    size_t length;      /* bytes of an error row, a multiple of 128 */
    HVX_Vector *strip;  /* errors packed, before they are transposed */
    size_t strip_panel;
    const int8_t *x, *e;
};

/* Rows first .. last - 1 of the bordered map. */
static void pack_inputs(void *context, int first, int last, int thread)
{
    struct grad *g = context;
    const struct layer *l = g->l;
    (void)thread;
    size_t sample = (size_t)l->h * l->w * l->c_in;
    for (int y = first; y < last; y++)
        for (int x = 0; x < g->rows_w; x++) {
            int i = y - l->pad_h, j = x - l->pad_w;
            int inside = i >= 0 && i < l->h && j >= 0 && j < l->w;
            const int8_t *from = g->x + (inside ? ((size_t)i * l->w + j) * l->c_in : 0);
            pack_columns(from, sample, inside ? l->n : 0, g->depth, l->ins, 0x80, g->panels,
                         g->panel, (y * g->rows_w + x) * g->depth);
        }
}

/* Places first .. last - 1 of the errors. */
static void pack_errors(void *context, int first, int last, int thread)
{
    struct grad *g = context;
    const struct layer *l = g->l;
    (void)thread;
    size_t sample = (size_t)l->h_out * l->w_out * l->c_out;
    for (int place = first; place < last; place++)
        pack_columns(g->e + (size_t)place * l->c_out, sample, l->n, g->depth, l->outs, 0, g->strip,
                     g->strip_panel, place * g->depth);
}

/* Blocks of 32 channels: lanes of four depths become rows of 128. */
static void turn_errors(void *context, int first, int last, int thread)
{
    struct grad *g = context;
    (void)thread;
    for (int channel = first; channel < last; channel += WORDS) {
        const HVX_Vector *from = g->strip + channel / TILE_COLUMNS * g->strip_panel
                                 + channel % TILE_COLUMNS / WORDS;
        for (size_t at = 0; at < g->length; at += VLEN) {
            HVX_Vector rows[WORDS];
#pragma unroll
            for (int i = 0; i < WORDS; i++)
                rows[i] = from[at / 2 + 2 * i];
            transpose_words(rows);
#pragma unroll
            for (int i = 0; i < WORDS; i++)
                *(HVX_Vector *)(g->errors + (channel + i) * g->length + at) = rows[i];
        }
    }
}

static int grad_open(struct job *job, const struct layer *l, struct grad *g)
{
    g->l = l;
    g->depth = (int)round_up(l->n, DEPTH_STEP);
    g->rows_h = l->h + 2 * l->pad_h;
    g->rows_w = l->w + 2 * l->pad_w;
    g->panel = (size_t)g->rows_h * g->rows_w * g->depth / 2;
    g->length = round_up((size_t)l->h_out * l->w_out * g->depth, VLEN);
    g->strip_panel = g->length / 2;
    g->panels = job_memory(job, (uint64_t)round_up(l->ins, TILE_COLUMNS) * g->panel * 2);
    g->strip = job_zeros(job, (uint64_t)round_up(l->outs, TILE_COLUMNS) * g->length);
    g->errors = job_memory(job, (uint64_t)round_up(l->outs, WORDS) * g->length);
    return g->panels && g->strip && g->errors;
}

/* The depth of a tap: a row of outputs in one run, or one place each under a stride. The errors
   lie in one piece, the inputs leave out what the taps of a row do not see. */
static int grad_runs(const struct grad *g, struct gap *gaps, int *steps)
{
    const struct layer *l = g->l;
    int along = l->stride == 1 ? 1 : l->w_out, count = l->h_out * along;
    int run = l->w_out / along; /* places of the map in one run */
    *steps = run * g->depth / DEPTH_STEP;
    for (int i = 0; i < count; i++) {
        int next = i + 1, here = (i / along * g->rows_w + i % along) * l->stride;
        int there = (next / along * g->rows_w + next % along) * l->stride;
        gaps[i] = (struct gap){0, (there - here - run) * g->depth / DEPTH_STEP * STEP_VECTORS};
    }
    return count;
}

static int run_group(struct job *job, struct grad *g, struct sink *sink, int32_t *out)
{
    const struct layer *l = g->l;
    team_run(&job->team, pack_inputs, g, g->rows_h, 1);
    team_run(&job->team, pack_errors, g, l->h_out * l->w_out, 1);
    team_run(&job->team, turn_errors, g, (int)round_up(l->outs, WORDS), WORDS);
    const int8_t **starts = job_memory(job, STARTS(l->outs));
    int32_t *sums = job_memory(job, round_up(l->outs, WORDS) * 4);
    struct gap *gaps = job_memory(job, (size_t)l->h_out * l->w_out * sizeof *gaps);
    if (!starts || !sums || !gaps)
        return 0;
    row_sums(g->errors, g->length, l->outs, (int)g->length, sums);
    for (int i = 0; i < l->outs; i++)
        starts[i] = g->errors + i * g->length;
    fill_starts(starts, l->outs);
    struct product product = {l->outs, l->ins, starts, g->panels, g->panel, gaps, 0, 0};
    product.runs = grad_runs(g, gaps, &product.steps);
    sink->rows = sums;
    for (int i = 0; i < l->k_h; i++)
        for (int j = 0; j < l->k_w; j++) {
            size_t place = (size_t)l->dilation * (i * g->rows_w + j);
            product.panels = g->panels + place * g->depth / 2;
            sink->out = out + (i * l->k_w + j) * l->ins;
            product_run(&product, sink, &job->team);
        }
    return 1;
}

int run_conv_weight_grad(struct job *job)
{
    struct layer l;
    if (!layer_read(job, &l))
        return 0;
    int64_t weights = (int64_t)l.c_out * l.k_h * l.k_w * l.ins;
    if (!job_expect(job, 0, INT8, (int64_t)l.n * l.h * l.w * l.c_in, "x")
        || !job_expect(job, 1, INT8, (int64_t)l.n * l.h_out * l.w_out * l.c_out, "e")
        || !job_expect(job, 2, INT32, job->in[2].elements ? weights : 0, "into"))
        return 0;
    if ((int64_t)l.n * l.h_out * l.w_out > MAX_DEPTH)
        return job_fail(job, BAD_PARAMS,
                        "n * h_out * w_out is %d; allowed: %d, which int32 holds; split the batch",
                        (int64_t)l.n * l.h_out * l.w_out, (int64_t)MAX_DEPTH);
    struct grad g;
    struct sink sink;
    memset(&sink, 0, sizeof sink);
    int fresh = job->in[2].elements == 0;
    int32_t *out = fresh ? job_output(job, INT32, weights) : job->in[2].data;
    sink.kind = fresh ? TO_WORDS : ADD_WORDS;
    sink.row_stride = (size_t)l.k_h * l.k_w * l.ins;
    if (!out || !grad_open(job, &l, &g))
        return 0;
    if (!fresh)
        job_return(job, 2);
    for (int group = 0; group < l.groups; group++) {
        size_t held = job->held;
        g.x = (const int8_t *)job->in[0].data + group * l.ins;
        g.e = (const int8_t *)job->in[1].data + group * l.outs;
        if (!run_group(job, &g, &sink, out + group * l.outs * sink.row_stride))
            return 0;
        job_release(job, held);
    }
    for (int t = 0; t < MAX_THREADS; t++)
        if (sink.wrapped[t])
            return job_fail(job, WRAPPED, "a sum left int32; accumulate into int64");
    sink_values(job, &sink);
    return 1;
}
