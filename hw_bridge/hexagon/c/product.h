/* The product under every layer: rows of INT8 by packed columns, exact in INT32.

   HVX multiplies unsigned bytes of a vector by signed bytes of a scalar at twice the rate of
   signed by signed (vrmpy Vu.ub, Rt.b uses one multiply pipe, vrmpy V.b, V.b both). So one
   operand, the packed columns, is stored with 128 added, and the other is read as scalars where it
   lies. sum a (b + 128) = sum a b + 128 sum a: what comes on top depends on the row alone, and is
   taken off again modulo 2^32, so that the whole range of int8 is exact.

   Columns are packed as [columns / 64][depth / 4][64][4] unsigned bytes: four of the depth fill a
   lane. Depths are multiples of 8 (two lanes' worth, one 64-bit scalar load). */
#ifndef MANDHELING_PRODUCT_H
#define MANDHELING_PRODUCT_H

#include "sink.h"

#define ZERO_POINT 128
#define DEPTH_STEP 8
#define STEP_VECTORS 4 /* packed vectors for DEPTH_STEP of 64 columns */

/* The depth is made of runs that lie in one piece in both operands; after one, both move on. */
struct gap {
    int32_t row_bytes;
    int32_t column_vectors;
};

struct product {
    int rows, columns;
    const int8_t *const *starts; /* of each row, 8-byte aligned; filled up by fill_starts */
    const HVX_Vector *panels;
    size_t panel_vectors; /* from one panel of 64 columns to the next */
    const struct gap *gaps; /* one per run; that of the last counts for nothing */
    int runs, steps;        /* steps of the depth in each run */
};

/* Room for the starts of this many rows: a tile reads eight, whatever there are. */
#define STARTS(rows) (round_up(rows, TILE_ROWS) * sizeof(const int8_t *))

/* Repeat the last row's start up to a multiple of eight; those sums are not stored. */
INLINE void fill_starts(const int8_t **starts, int rows)
{
    for (int i = rows; i % TILE_ROWS; i++)
        starts[i] = starts[rows - 1];
}

/* Compute and store all rows and columns, on the team's threads. */
void product_run(const struct product *product, struct sink *sink, struct team *team);

#endif
