#include "pack.h"

#define GROUP 4 /* depths in one lane */

/* One group of four depths, 128 columns: bytes of a lane come from four rows. */
INLINE void pack_group(const int8_t *from, size_t stride, int depths, int bytes,
                       HVX_Vector flip, HVX_Vector out[4])
{
    HVX_Vector row[GROUP];
#pragma unroll
    for (int i = 0; i < GROUP; i++)
        row[i] = i < depths ? load_any(from + i * stride) : Q6_V_vzero();
    if (bytes < VLEN)
#pragma unroll
        for (int i = 0; i < GROUP; i++)
            row[i] = keep_bytes(row[i], bytes);
    HVX_VectorPair even = Q6_W_vshuff_VVR(row[1], row[0], -1);
    HVX_VectorPair odd = Q6_W_vshuff_VVR(row[3], row[2], -1);
    HVX_VectorPair low = Q6_W_vshuff_VVR(Q6_V_lo_W(odd), Q6_V_lo_W(even), -2);
    HVX_VectorPair high = Q6_W_vshuff_VVR(Q6_V_hi_W(odd), Q6_V_hi_W(even), -2);
    out[0] = Q6_V_vxor_VV(Q6_V_lo_W(low), flip);
    out[1] = Q6_V_vxor_VV(Q6_V_hi_W(low), flip);
    out[2] = Q6_V_vxor_VV(Q6_V_lo_W(high), flip);
    out[3] = Q6_V_vxor_VV(Q6_V_hi_W(high), flip);
}

void pack_columns(const int8_t *from, size_t stride, int depths, int padded, int columns,
                  uint8_t flip, HVX_Vector *panels, size_t panel_vectors, int at)
{
    HVX_Vector turn = Q6_V_vsplat_R(flip * 0x01010101);
    for (int column = 0; column < columns; column += VLEN) {
        int bytes = (int)least(columns - column, VLEN);
        HVX_Vector *first = panels + column / TILE_COLUMNS * panel_vectors + at / 2;
        HVX_Vector *second = first + panel_vectors;
        const int8_t *here = from + column;
        for (int depth = 0; depth < padded; depth += GROUP, here += GROUP * stride) {
            HVX_Vector out[4];
            if (depth + GROUP <= depths)
                pack_group(here, stride, GROUP, bytes, turn, out);
            else
                pack_group(here, stride, depths - depth, bytes, turn, out);
            first[0] = out[0];
            first[1] = out[1];
            first += 2;
            if (bytes > TILE_COLUMNS) {
                second[0] = out[2];
                second[1] = out[3];
                second += 2;
            }
        }
    }
}

/* 32 columns, 128 depths: a transposition of 32 x 32 words. */
static void pack_square(const int8_t *from, size_t stride, int columns, int bytes,
                        HVX_Vector *to)
{
    HVX_Vector rows[WORDS], turn = Q6_V_vsplat_R(0x80808080);
#pragma unroll
    for (int i = 0; i < WORDS; i++)
        rows[i] = i < columns ? load_any(from + i * stride) : Q6_V_vzero();
    transpose_words(rows);
#pragma unroll
    for (int i = 0; i < WORDS; i++)
        if (i * GROUP < bytes) /* other columns' bytes are behind, and packed by none */
            to[2 * i] = Q6_V_vxor_VV(rows[i], turn);
}

void pack_depths(const int8_t *from, size_t stride, int depth, int first, int last,
                 HVX_Vector *panels, size_t panel_vectors)
{
    for (int column = first; column < (int)round_up(last, TILE_COLUMNS); column += WORDS) {
        HVX_Vector *to = panels + column / TILE_COLUMNS * panel_vectors
                         + column % TILE_COLUMNS / WORDS;
        int columns = last - column < WORDS ? last - column : WORDS;
        for (int at = 0; at < depth; at += VLEN) {
            int bytes = (int)least(depth - at, VLEN);
            pack_square(from + column * stride + at, stride, columns, bytes, to + at / 2);
        }
    }
}

void row_sums(const int8_t *from, size_t stride, int rows, int bytes, int32_t *out)
{
    HVX_Vector ones = Q6_V_vsplat_R(0x01010101);
    for (int row = 0; row < rows; row += WORDS) {
        HVX_Vector sums[WORDS];
        for (int i = 0; i < WORDS; i++) {
            HVX_Vector sum = Q6_V_vzero();
            const int8_t *at = from + (size_t)(row + i < rows ? row + i : rows - 1) * stride;
            int left = bytes;
            for (; left >= VLEN; left -= VLEN, at += VLEN)
                sum = Q6_Vw_vrmpyacc_VwVbVb(sum, load_any(at), ones);
            if (left)
                sum = Q6_Vw_vrmpyacc_VwVbVb(sum, keep_bytes(load_any(at), left), ones);
            sums[i] = sum;
        }
#pragma unroll
        for (int half = WORDS / 2; half; half /= 2) /* as transpose_words, adding what meets */
#pragma unroll
            for (int i = 0; i < half; i++) {
                HVX_VectorPair pair = Q6_W_vshuff_VVR(sums[i + half], sums[i], -4);
                sums[i] = Q6_Vw_vadd_VwVw(Q6_V_lo_W(pair), Q6_V_hi_W(pair));
            }
        *(HVX_Vector *)(out + row) = Q6_Vw_vasl_VwR(sums[0], 7);
    }
}
