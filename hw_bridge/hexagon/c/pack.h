/* Operands of a product in the form that it reads. */
#ifndef MANDHELING_PACK_H
#define MANDHELING_PACK_H

#include "product.h"

/* Pack depths x columns bytes, columns side by side and depths stride bytes apart, into panels
   from depth `at` (a multiple of 4) on. Depths up to padded (a multiple of 4) are filled with 0,
   columns up to the next 64 too. Every byte is XORed with flip: 0x80 adds the zero point. */
void pack_columns(const int8_t *from, size_t stride, int depths, int padded, int columns,
                  uint8_t flip, HVX_Vector *panels, size_t panel_vectors, int at);

/* As pack_columns where the depth lies side by side and columns are stride bytes apart: the
   weights of a layer forward. Columns first .. last - 1, first a multiple of 64. */
void pack_depths(const int8_t *from, size_t stride, int depth, int first, int last,
                 HVX_Vector *panels, size_t panel_vectors);

/* out[r] = 128 * sum of row r: rows of `bytes` int8, `stride` apart. out has room for a multiple
   of 32. */
void row_sums(const int8_t *from, size_t stride, int rows, int bytes, int32_t *out);

#endif
