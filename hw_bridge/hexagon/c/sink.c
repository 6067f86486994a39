#include "sink.h"

struct outlet outlet_open(struct sink *sink)
{
    struct outlet outlet = {.sink = sink, .wrapped = Q6_V_vzero()};
    if (sink->kind == TO_BYTES)
        outlet.rounder = rounder_of(&sink->store);
    tally_start(&outlet.tally);
    return outlet;
}

void outlet_close(struct outlet *outlet, int thread)
{
    tally_finish(&outlet->tally, &outlet->sink->totals[thread]);
    const int32_t *wrapped = (const int32_t *)&outlet->wrapped;
    for (int i = 0; i < WORDS; i++)
        outlet->sink->wrapped[thread] |= wrapped[i] < 0;
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

/* Take the zero point's part off, add the bias. Columns behind the last are 0 by construction:
   their weights are, so that they count for nothing in a tally. */
INLINE void finish_rows(const struct sink *sink, HVX_Vector *tile, int row, int rows, int column)
{
    HVX_Vector bias[2] = {Q6_V_vzero(), Q6_V_vzero()};
    if (sink->columns) {
        bias[0] = *(const HVX_Vector *)(sink->columns + column);
        bias[1] = *(const HVX_Vector *)(sink->columns + column + WORDS);
    }
    for (int i = 0; i < rows; i++) {
        HVX_Vector extra = Q6_V_vsplat_R(sink->rows[row + i]);
        tile[2 * i] = Q6_Vw_vsub_VwVw(Q6_Vw_vadd_VwVw(tile[2 * i], bias[0]), extra);
        tile[2 * i + 1] = Q6_Vw_vsub_VwVw(Q6_Vw_vadd_VwVw(tile[2 * i + 1], bias[1]), extra);
    }
}

INLINE void words_out(int32_t *to, const HVX_Vector *row, int columns)
{
    if (columns <= WORDS) {
        store_any(to, row[0], columns * 4);
        return;
    }
    store_any(to, row[0], VLEN);
    store_any(to + WORDS, row[1], (columns - WORDS) * 4);
}

static void write_words(struct outlet *outlet, const HVX_Vector *tile, int32_t *to, int rows,
                        int columns)
{
    struct tally tally = outlet->tally;
    for (int i = 0; i < rows; i++, to += outlet->sink->row_stride) {
        tally_range(&tally, tile[2 * i]);
        tally_range(&tally, tile[2 * i + 1]);
        words_out(to, tile + 2 * i, columns);
    }
    outlet->tally = tally;
}

/* A sum left int32 where both terms have the sign that the sum has not. */
INLINE HVX_Vector sum_of(HVX_Vector a, HVX_Vector b, HVX_Vector *wrapped)
{
    HVX_Vector sum = Q6_Vw_vadd_VwVw(a, b);
    HVX_Vector turned = Q6_V_vand_VV(Q6_V_vxor_VV(a, sum), Q6_V_vxor_VV(b, sum));
    *wrapped = Q6_V_vor_VV(*wrapped, turned);
    return sum;
}

static void add_words(struct outlet *outlet, const HVX_Vector *tile, int32_t *to, int rows,
                      int columns)
{
    struct tally tally = outlet->tally;
    for (int i = 0; i < rows; i++, to += outlet->sink->row_stride) {
        HVX_Vector sums[2] = {Q6_V_vzero(), Q6_V_vzero()};
        HVX_Vector held = load_any(to);
        if (columns < WORDS)
            held = keep_bytes(held, columns * 4);
        sums[0] = sum_of(held, tile[2 * i], &outlet->wrapped);
        if (columns > WORDS) {
            held = load_any(to + WORDS);
            if (columns < TILE_COLUMNS)
                held = keep_bytes(held, (columns - WORDS) * 4);
            sums[1] = sum_of(held, tile[2 * i + 1], &outlet->wrapped);
        }
        tally_range(&tally, sums[0]);
        tally_range(&tally, sums[1]);
        words_out(to, sums, columns);
    }
    outlet->tally = tally;
}

/* Two rows of 64 make one vector of bytes. */
INLINE void write_bytes(struct outlet *outlet, const HVX_Vector *tile, int8_t *to, int rows,
                        int columns, int rule)
{
    struct tally tally = outlet->tally;
    struct rounder r = outlet->rounder;
    size_t stride = outlet->sink->row_stride;
    for (int i = 0; i < rows; i += 2, to += 2 * stride) {
        HVX_Vector a = store_words(tile[2 * i], rule, &r, &tally);
        HVX_Vector b = store_words(tile[2 * i + 1], rule, &r, &tally);
        if (i + 1 == rows) {
            store_any(to, narrow(a, b, b, b), columns);
            break;
        }
        HVX_Vector c = store_words(tile[2 * i + 2], rule, &r, &tally);
        HVX_Vector d = store_words(tile[2 * i + 3], rule, &r, &tally);
        HVX_Vector both = narrow(a, b, c, d);
        if (columns == TILE_COLUMNS && stride == TILE_COLUMNS) {
            store_any(to, both, VLEN);
            continue;
        }
        store_any(to, both, columns);
        store_any(to + stride, Q6_V_vror_VR(both, TILE_COLUMNS), columns);
    }
    outlet->tally = tally;
}

void outlet_write(struct outlet *outlet, HVX_Vector *tile, int row, int rows, int column,
                  int columns)
{
    struct sink *sink = outlet->sink;
    size_t place = row * sink->row_stride + column;
    finish_rows(sink, tile, row, rows, column);
    if (sink->kind == TO_WORDS) {
        write_words(outlet, tile, (int32_t *)sink->out + place, rows, columns);
        return;
    }
    if (sink->kind == ADD_WORDS) {
        add_words(outlet, tile, (int32_t *)sink->out + place, rows, columns);
        return;
    }
    int8_t *to = (int8_t *)sink->out + place;
#define WRITE(rule) write_bytes(outlet, tile, to, rows, columns, rule)
    WITH_RULE(sink->store.rule, WRITE)
#undef WRITE
}
