/* Where the accumulators of a product go: INT32, INT8 by a known shift, or added to INT32. */
#ifndef MANDHELING_SINK_H
#define MANDHELING_SINK_H

#include "rounding.h"
#include "team.h"

#define TILE_ROWS 8
#define TILE_COLUMNS 64
#define TILE_VECTORS (TILE_ROWS * TILE_COLUMNS / WORDS)

enum sink_kind { TO_WORDS, TO_BYTES, ADD_WORDS };

struct sink {
    enum sink_kind kind;
    struct store store;     /* of TO_BYTES */
    void *out;              /* int32 or int8 elements */
    size_t row_stride;      /* elements from one row to the next */
    const int32_t *places;  /* element at which each row starts, multiples of row_stride; or NULL:
                               one row after the other */
    const int32_t *columns; /* added to each row, a multiple of 64 of them; or NULL */
    const int32_t *rows;    /* taken from all of a row: what the zero point brought */
    struct total totals[MAX_THREADS];
    int wrapped[MAX_THREADS]; /* whether ADD_WORDS left int32 */
};

/* The constants and counts of one thread. */
struct outlet {
    struct sink *sink;
    struct tally tally;
    HVX_Vector wrapped;
};

struct outlet outlet_open(struct sink *sink);
void outlet_close(struct outlet *outlet, int thread);

/* Store a tile, zero point and bias already in it: rows x columns of it count, from (row, column) of the output on. */
void outlet_write(struct outlet *outlet, const HVX_Vector *tile, int row, int rows, int column,
                  int columns);

/* All threads together. */
struct total sink_total(const struct sink *sink);

#endif
