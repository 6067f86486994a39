/* Kernels that move bytes and compute nothing: transposition, depth-32 layout, turned weights. */
#include "pack.h"
#include "rescale.h"
#include "system.h"

static int sizes_read(struct job *job, int count, int64_t *elements)
{
    *elements = 1;
    for (int i = 0; i < count; i++) {
        if (!job_check(job, i, 1, 1 << 24, "a size"))
            return 0;
        *elements *= job->params[i];
        if (*elements > MAX_ELEMENTS)
            return job_fail(job, BAD_PARAMS, "the tensor has more than 2^28 elements");
    }
    return job_expect(job, 0, INT8, *elements, "the tensor");
}

struct turn {
    int rows, columns;
    const int8_t *from;
    int8_t *to;
    HVX_Vector *strips; /* one per thread: 128 rows by 64 columns */
};

/* Blocks of 128 rows by 64 columns: four rows to a lane, then lanes to rows. */
static void turn_block(const struct turn *t, const int8_t *from, int8_t *to, int rows, int columns,
                       HVX_Vector *strip)
{
    pack_columns(from, t->columns, rows, VLEN, columns, 0, strip, 0, 0);
    for (int first = 0; first < columns; first += WORDS) {
        HVX_Vector lanes[WORDS];
#pragma unroll
        for (int i = 0; i < WORDS; i++)
            lanes[i] = strip[2 * i + first / WORDS];
        transpose_words(lanes);
        for (int i = 0; i < WORDS && first + i < columns; i++)
            store_any(to + (size_t)(first + i) * t->rows, lanes[i], rows);
    }
}

static void turn_matrices(void *context, int first, int last, int thread)
{
    const struct turn *t = context;
    size_t size = (size_t)t->rows * t->columns;
    HVX_Vector *strip = t->strips + thread * VLEN / 2;
    for (int m = first; m < last; m++)
        for (int row = 0; row < t->rows; row += VLEN)
            for (int column = 0; column < t->columns; column += TILE_COLUMNS)
                turn_block(t, t->from + m * size + (size_t)row * t->columns + column,
                           t->to + m * size + (size_t)column * t->rows + row,
                           (int)least(t->rows - row, VLEN),
                           (int)least(t->columns - column, TILE_COLUMNS), strip);
}

/* Parameters: matrices, rows, columns. NCHW to NHWC is (n, c, h w), and back (n, h w, c). */
int run_transpose(struct job *job)
{
    int64_t elements;
    if (!sizes_read(job, 3, &elements))
        return 0;
    struct turn t = {(int)job->params[1], (int)job->params[2], job->in[0].data,
                     job_output(job, INT8, elements), job_memory(job, MAX_THREADS * VLEN * VLEN / 2)};
    if (!t.to || !t.strips)
        return 0;
    team_run(&job->team, turn_matrices, &t, (int)job->params[0], 1);
    return 1;
}

#define SLICE 32 /* channels of a slice: hexagon_nn's D32 is [n][h][c / 32][w][32] */

struct depth32 {
    int lines, w, c, back;
    const int8_t *from;
    int8_t *to;
};

static void slice_lines(void *context, int first, int last, int thread)
{
    const struct depth32 *d = context;
    (void)thread;
    size_t slices = round_up(d->c, SLICE) / SLICE;
    for (int line = first; line < last; line++)
        for (size_t slice = 0; slice < slices; slice++)
            for (int x = 0; x < d->w; x++) {
                size_t flat = ((size_t)line * d->w + x) * d->c + slice * SLICE;
                size_t deep = (((size_t)line * slices + slice) * d->w + x) * SLICE;
                unsigned bytes = (unsigned)least(d->c - slice * SLICE, SLICE);
                if (d->back)
                    store_bytes(d->to + flat, load_any(d->from + deep), bytes);
                else /* channels behind the last are 0 */
                    store_bytes(d->to + deep, keep_bytes(load_any(d->from + flat), bytes), SLICE);
            }
}

/* Parameters: n, h, w, c of the flat map. */
static int run_depth32(struct job *job, int back)
{
    int64_t deep = 1, flat = 1;
    for (int i = 0; i < 4; i++) {
        if (!job_check(job, i, 1, 1 << 24, "a size"))
            return 0;
        flat *= job->params[i];
        deep *= i == 3 ? (int64_t)round_up(job->params[i], SLICE) : job->params[i];
        if (deep > MAX_ELEMENTS)
            return job_fail(job, BAD_PARAMS, "the map has more than 2^28 elements");
    }
    if (!job_expect(job, 0, INT8, back ? deep : flat, "the map"))
        return 0;
    struct depth32 d = {(int)(job->params[0] * job->params[1]), (int)job->params[2],
                        (int)job->params[3], back, job->in[0].data,
                        job_output(job, INT8, back ? flat : deep)};
    if (!d.to)
        return 0;
    team_run(&job->team, slice_lines, &d, d.lines, 1);
    return 1;
}

int run_to_d32(struct job *job) { return run_depth32(job, 0); }

int run_from_d32(struct job *job) { return run_depth32(job, 1); }

/* Parameters: outputs, taps, channels. A window turned by 180 degrees is its taps backwards. */
int run_rotate180(struct job *job)
{
    int64_t elements;
    if (!sizes_read(job, 3, &elements))
        return 0;
    int outputs = (int)job->params[0], taps = (int)job->params[1];
    int channels = (int)job->params[2];
    const int8_t *from = job->in[0].data;
    int8_t *to = job_output(job, INT8, elements);
    if (!to)
        return 0;
    for (int output = 0; output < outputs; output++)
        for (int tap = 0; tap < taps; tap++)
            copy_bytes(to + ((size_t)output * taps + tap) * channels,
                       from + ((size_t)output * taps + taps - 1 - tap) * channels, channels);
    return 1;
}
