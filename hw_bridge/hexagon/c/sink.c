#include "sink.h"

struct outlet outlet_open(struct sink *sink)
{
    struct outlet outlet = {.sink = sink, .wrapped = Q6_V_vzero()};
    tally_start(&outlet.tally);
    return outlet;
}

void outlet_close(struct outlet *outlet, int thread)
{
    tally_finish(&outlet->tally, &outlet->sink->totals[thread]);
    const int32_t *wrapped = (const int32_t *)&outlet->wrapped;
    for (int i = 0; i < WORDS; i++)
        outlet->sink->wrapped[thread] |= wrapped[i] != 0;
}

struct total sink_total(const struct sink *sink)
{
    struct total all = {0, 0, 0};
    for (int t = 0; t < MAX_THREADS; t++) {
        all.amax = sink->totals[t].amax > all.amax ? sink->totals[t].amax : all.amax;
        all.saturated += sink->totals[t].saturated;
        all.lost += sink->totals[t].lost;
    }
    return all;
}

INLINE struct tally tally_of(const struct outlet *outlet)
{
    const struct tally *t = &outlet->tally; /* field by field: a copy whole would be a call */
    return (struct tally){t->most, t->least, t->saturated, t->lost};
}

INLINE void tally_keep(struct outlet *outlet, const struct tally *t)
{
    outlet->tally.most = t->most;
    outlet->tally.least = t->least;
    outlet->tally.saturated = t->saturated;
    outlet->tally.lost = t->lost;
}

/* The sum, and in `wrapped` a bit where it left int32. */
INLINE HVX_Vector sum_of(HVX_Vector a, HVX_Vector b, HVX_Vector *wrapped)
{
    HVX_Vector sum = Q6_Vw_vadd_VwVw(a, b);
    HVX_Vector changed = Q6_V_vxor_VV(sum, Q6_Vw_vadd_VwVw_sat(a, b));
    *wrapped = Q6_V_vor_VV(*wrapped, changed);
    return sum;
}

/* Element of the output where row i of a tile starts; places is that of the tile's first row. */
INLINE size_t row_start(const struct outlet *outlet, const int32_t *places, int i)
{
    return places ? (size_t)places[i] : i * outlet->sink->row_stride;
}

/* A whole tile, to aligned rows: straight through. */
INLINE void whole_words(struct outlet *outlet, const HVX_Vector *tile, int32_t *to,
                        const int32_t *places, int add)
{
    struct tally tally = tally_of(outlet);
    HVX_Vector wrapped = outlet->wrapped;
#pragma unroll
    for (int i = 0; i < TILE_ROWS; i++) {
        HVX_Vector *line = (HVX_Vector *)(to + row_start(outlet, places, i));
        HVX_Vector a = tile[2 * i], b = tile[2 * i + 1];
        if (add) {
            a = sum_of(line[0], a, &wrapped);
            b = sum_of(line[1], b, &wrapped);
        }
        tally_range(&tally, a);
        tally_range(&tally, b);
        line[0] = a;
        line[1] = b;
    }
    outlet->wrapped = wrapped;
    tally_keep(outlet, &tally);
}

static void part_words(struct outlet *outlet, const HVX_Vector *tile, int32_t *to,
                       const int32_t *places, int rows, int columns, int add)
{
    struct tally tally = tally_of(outlet);
    for (int i = 0; i < rows; i++)
        for (int half = 0; half < 2 && half * WORDS < columns; half++) {
            int32_t *at = to + row_start(outlet, places, i) + half * WORDS;
            int bytes = (int)least(columns - half * WORDS, WORDS) * 4;
            HVX_Vector sum = tile[2 * i + half];
            if (add)
                sum = sum_of(keep_bytes(load_any(at), bytes), sum, &outlet->wrapped);
            tally_range(&tally, sum);
            store_any(at, sum, bytes);
        }
    tally_keep(outlet, &tally);
}

/* Two rows of 64 make one vector of bytes; `half` of lines of 128 is theirs, or -1: any place. */
INLINE void write_bytes(struct outlet *outlet, const HVX_Vector *tile, int8_t *to,
                        const int32_t *places, int rows, int columns, int half, int rule)
{
    struct tally tally = tally_of(outlet);
    struct rounder r = rounder_of(&outlet->sink->store);
    int joined = !places && columns == TILE_COLUMNS && outlet->sink->row_stride == TILE_COLUMNS;
    HVX_VectorPred low = Q6_Q_vsetq_R(TILE_COLUMNS);
    for (int i = 0; i < rows; i += 2, tile += 4) {
        int8_t *first = to + row_start(outlet, places, i);
        HVX_Vector a = store_words(tile[0], rule, &r, &tally);
        HVX_Vector b = store_words(tile[1], rule, &r, &tally);
        if (i + 1 == rows) {
            store_any(first, narrow(a, b, b, b), columns);
            break;
        }
        int8_t *second = to + row_start(outlet, places, i + 1);
        HVX_Vector c = store_words(tile[2], rule, &r, &tally);
        HVX_Vector d = store_words(tile[3], rule, &r, &tally);
        HVX_Vector both = narrow(a, b, c, d), turned = Q6_V_vror_VR(both, TILE_COLUMNS);
        if (half == 0) {
            Q6_vmem_QRIV(low, (HVX_Vector *)first, both);
            Q6_vmem_QRIV(low, (HVX_Vector *)second, turned);
        } else if (half == 1) {
            Q6_vmem_QnRIV(low, (HVX_Vector *)(first - TILE_COLUMNS), turned);
            Q6_vmem_QnRIV(low, (HVX_Vector *)(second - TILE_COLUMNS), both);
        } else if (joined) {
            store_any(first, both, VLEN);
        } else {
            store_any(first, both, columns);
            store_any(second, turned, columns);
        }
    }
    tally_keep(outlet, &tally);
}

/* Which half of a line a row's 64 bytes are, where that is the same for all rows; else -1. */
static int half_of(const int8_t *to, size_t stride, int columns)
{
    uintptr_t at = (uintptr_t)to & (VLEN - 1);
    if (columns < TILE_COLUMNS || stride % VLEN || at % TILE_COLUMNS)
        return -1;
    return at != 0;
}

/* places: NULL where rows follow each other, which is compiled apart. */
INLINE void write_tile(struct outlet *outlet, const HVX_Vector *tile, size_t place,
                       const int32_t *places, int rows, int columns)
{
    struct sink *sink = outlet->sink;
    size_t stride = sink->row_stride;
    if (sink->kind == TO_BYTES) {
        int8_t *to = (int8_t *)sink->out + place;
        int half = half_of(to, stride, columns);
#define WRITE(rule) write_bytes(outlet, tile, to, places, rows, columns, half, rule)
        WITH_RULE(sink->store.rule, WRITE)
#undef WRITE
        return;
    }
    int32_t *to = (int32_t *)sink->out + place;
    int whole = rows == TILE_ROWS && columns == TILE_COLUMNS && stride % WORDS == 0
                && (uintptr_t)to % VLEN == 0;
    if (!whole)
        part_words(outlet, tile, to, places, rows, columns, sink->kind == ADD_WORDS);
    else if (sink->kind == ADD_WORDS)
        whole_words(outlet, tile, to, places, 1);
    else
        whole_words(outlet, tile, to, places, 0);
}

void outlet_write(struct outlet *outlet, const HVX_Vector *tile, int row, int rows, int column,
                  int columns)
{
    const struct sink *sink = outlet->sink;
    if (sink->places)
        write_tile(outlet, tile, column, sink->places + row, rows, columns);
    else
        write_tile(outlet, tile, row * sink->row_stride + column, NULL, rows, columns);
}
