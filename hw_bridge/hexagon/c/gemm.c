#include "layer.h"
#include "pack.h"

#include "system.h"

enum { M, K, N, GEMM_PARAMS };

struct sums {
    const int8_t *rows;
    int depth;
    int32_t *out;
};

static void sum_rows(void *context, int first, int last, int thread)
{
    struct sums *s = context;
    (void)thread;
    row_sums(s->rows + (size_t)first * s->depth, s->depth, last - first, s->depth, s->out + first);
}

/* Rows of a depth that 8 does not divide, with zeros behind each. */
static const int8_t *padded_rows(struct job *job, const int8_t *a, int rows, int depth, int padded)
{
    if (depth == padded)
        return a;
    int8_t *copy = job_zeros(job, (size_t)rows * padded);
    for (int i = 0; copy && i < rows; i++)
        copy_bytes(copy + (size_t)i * padded, a + (size_t)i * depth, depth);
    return copy;
}

/* C (M, N) = A (M, K) B (K, N); then sinks as everywhere. */
int run_gemm(struct job *job)
{
    int bytes;
    struct store store;
    struct sink sink;
    if (!job_check(job, M, 1, 1 << 24, "M") || !job_check(job, K, 1, MAX_DEPTH, "K")
        || !job_check(job, N, 1, 1 << 24, "N") || !store_read(job, GEMM_PARAMS, &bytes, &store))
        return 0;
    int64_t m = job->params[M], k = job->params[K], n = job->params[N];
    if (!job_expect(job, 0, INT8, m * k, "a") || !job_expect(job, 1, INT8, k * n, "b")
        || (m * n > MAX_ELEMENTS
            && !job_fail(job, BAD_PARAMS, "the result has more than 2^28 elements")))
        return 0;
    int depth = (int)round_up(k, DEPTH_STEP);
    size_t panel = (size_t)depth / 2, panels = round_up(n, TILE_COLUMNS) / TILE_COLUMNS;
    HVX_Vector *packed = job_memory(job, (uint64_t)panels * panel * VLEN);
    const int8_t *rows = padded_rows(job, job->in[0].data, (int)m, (int)k, depth);
    const int8_t **starts = job_memory(job, STARTS(m));
    int32_t *sums = job_memory(job, round_up(m, WORDS) * 4);
    if (!packed || !rows || !starts || !sums
        || !sink_new(job, &sink, bytes, &store, m * n, n))
        return 0;
    pack_columns(job->in[1].data, n, (int)k, depth, (int)n, 0x80, packed, panel, 0);
    for (int i = 0; i < m; i++)
        starts[i] = rows + (size_t)i * depth;
    fill_starts(starts, (int)m);
    struct sums task = {rows, depth, sums};
    team_run(&job->team, sum_rows, &task, (int)m, WORDS);
    sink.rows = sums;
    struct gap none = {0, 0};
    struct product product = {(int)m, (int)n, starts, packed, panel, &none, 1, depth / DEPTH_STEP};
    product_run(&product, &sink, &job->team);
    sink_values(job, &sink);
    return 1;
}
