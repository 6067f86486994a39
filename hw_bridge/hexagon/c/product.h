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

/* A run of the depth that lies in one piece in both operands. */
struct piece {
    int32_t row_bytes;   /* from where a row starts */
    int32_t column_steps; /* from where a panel starts, in steps of the depth */
};

struct product {
    int rows, columns;
    const int8_t *base;    /* rows: base + from[row], 8-byte aligned */
    const int32_t *from;
    const HVX_Vector *panels;
    size_t panel_vectors;  /* from one panel of 64 columns to the next */
    const struct piece *pieces;
    int piece_count, steps; /* steps of the depth in each piece */
};

/* Compute and store all rows and columns, on the team's threads. */
void product_run(const struct product *product, struct sink *sink, struct team *team);

#endif
