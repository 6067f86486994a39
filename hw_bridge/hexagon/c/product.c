#include "product.h"

/* Eight rows by 64 columns: 16 of the 32 vector registers hold sums. A step is 32 multiplies in 16
   packets, with 8 scalar and 4 vector loads beside them: 256 MAC per packet at best. */
INLINE void multiply_tile(const struct product *p, const struct sink *sink, int row, int column,
                          const HVX_Vector *panel, HVX_Vector *tile)
{
    HVX_Vector sums[TILE_VECTORS], bias[2] = {Q6_V_vzero(), Q6_V_vzero()};
    const uint64_t *at[TILE_ROWS];
    if (sink->columns) {
        bias[0] = *(const HVX_Vector *)(sink->columns + column);
        bias[1] = *(const HVX_Vector *)(sink->columns + column + WORDS);
    }
#pragma unroll
    for (int i = 0; i < TILE_ROWS; i++) {
        HVX_Vector extra = Q6_V_vsplat_R(sink->rows[row + i]);
        sums[2 * i] = Q6_Vw_vsub_VwVw(bias[0], extra);
        sums[2 * i + 1] = Q6_Vw_vsub_VwVw(bias[1], extra);
        at[i] = (const uint64_t *)p->starts[row + i];
    }
    const struct gap *gap = p->gaps, *last = gap + p->runs;
    do {
        for (int step = 0; step < p->steps; step++) {
            HVX_Vector a = panel[0], b = panel[1], c = panel[2], d = panel[3];
            panel += STEP_VECTORS;
#pragma unroll
            for (int i = 0; i < TILE_ROWS; i++) {
                uint64_t eight = *at[i]++;
                int32_t first = (int32_t)eight, second = (int32_t)(eight >> 32);
                sums[2 * i] = Q6_Vw_vrmpyacc_VwVubRb(sums[2 * i], a, first);
                sums[2 * i + 1] = Q6_Vw_vrmpyacc_VwVubRb(sums[2 * i + 1], b, first);
                sums[2 * i] = Q6_Vw_vrmpyacc_VwVubRb(sums[2 * i], c, second);
                sums[2 * i + 1] = Q6_Vw_vrmpyacc_VwVubRb(sums[2 * i + 1], d, second);
            }
        }
#pragma unroll
        for (int i = 0; i < TILE_ROWS; i++)
            at[i] = (const uint64_t *)((const char *)at[i] + gap->row_bytes);
        panel += gap->column_vectors;
    } while (++gap < last);
#pragma unroll
    for (int i = 0; i < TILE_VECTORS; i++)
        tile[i] = sums[i];
}

struct run {
    const struct product *product;
    struct sink *sink;
};

static void run_rows(void *context, int first, int last, int thread)
{
    struct run *run = context;
    const struct product *p = run->product;
    struct outlet outlet = outlet_open(run->sink);
    HVX_Vector tile[TILE_VECTORS];
    for (int column = 0; column < p->columns; column += TILE_COLUMNS) {
        const HVX_Vector *panel = p->panels + column / TILE_COLUMNS * p->panel_vectors;
        int columns = (int)least(p->columns - column, TILE_COLUMNS);
        for (int row = first; row < last; row += TILE_ROWS) {
            multiply_tile(p, run->sink, row, column, panel, tile);
            outlet_write(&outlet, tile, row, (int)least(last - row, TILE_ROWS), column, columns);
        }
    }
    outlet_close(&outlet, thread);
}

void product_run(const struct product *product, struct sink *sink, struct team *team)
{
    struct run run = {product, sink};
    team_run(team, run_rows, &run, product->rows, TILE_ROWS);
}
