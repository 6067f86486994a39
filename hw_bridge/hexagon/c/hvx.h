/* Vectors of 128 bytes: the few moves that every kernel makes. */
#ifndef MANDHELING_HVX_H
#define MANDHELING_HVX_H

#include <hexagon_types.h>
#include <hvx_hexagon_protos.h>
#include <stddef.h>
#include <stdint.h>

#define VLEN 128  /* bytes of a vector */
#define WORDS 32  /* int32 lanes of a vector */
#define SLACK 256 /* bytes behind every buffer that whole-vector loads may read */

#define INLINE static inline __attribute__((always_inline))

typedef HVX_Vector __attribute__((aligned(4))) unaligned_vector;

INLINE size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

INLINE size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* A load from any address (vmemu). */
INLINE HVX_Vector load_any(const void *from) { return *(const unaligned_vector *)from; }

/* The first n bytes, 1 .. 128. */
INLINE HVX_VectorPred first_bytes(unsigned n) { return Q6_Q_vsetq2_R(n); }

/* v with all bytes from n on, 1 .. 128, as 0. */
INLINE HVX_Vector keep_bytes(HVX_Vector v, unsigned n)
{
    return Q6_V_vmux_QVV(first_bytes(n), v, Q6_V_vzero());
}

/* Store the first n bytes, 1 .. 128, at any address; no other byte is touched, so that threads
   may write neighbours. */
INLINE void store_bytes(void *to, HVX_Vector v, unsigned n)
{
    unsigned at = (uintptr_t)to & (VLEN - 1), end = at + n;
    HVX_Vector *line = (HVX_Vector *)((uintptr_t)to - at);
    HVX_Vector turned = Q6_V_vlalign_VVR(v, v, at);
    HVX_VectorPred before = Q6_Q_vsetq_R(at);
    if (end <= VLEN) {
        Q6_vmem_QRIV(Q6_Q_and_QQn(first_bytes(end), before), line, turned);
        return;
    }
    Q6_vmem_QnRIV(before, line, turned);
    Q6_vmem_QRIV(Q6_Q_vsetq_R(end - VLEN), line + 1, turned);
}

/* Whole vectors to an aligned address need no mask. */
INLINE void store_any(void *to, HVX_Vector v, unsigned n)
{
    if (n == VLEN && ((uintptr_t)to & (VLEN - 1)) == 0)
        *(HVX_Vector *)to = v;
    else
        store_bytes(to, v, n);
}

/* Copy bytes between any addresses; whole vectors are read, so SLACK must lie behind the source. */
INLINE void copy_bytes(int8_t *to, const int8_t *from, int bytes)
{
    for (; bytes >= VLEN; bytes -= VLEN, to += VLEN, from += VLEN)
        store_any(to, load_any(from), VLEN);
    if (bytes)
        store_bytes(to, load_any(from), bytes);
}

/* Four vectors of int32 as one of int8, cut to -128 .. 127. */
INLINE HVX_Vector narrow(HVX_Vector a, HVX_Vector b, HVX_Vector c, HVX_Vector d)
{
    HVX_Vector low = Q6_Vh_vpack_VwVw_sat(b, a), high = Q6_Vh_vpack_VwVw_sat(d, c);
    return Q6_Vb_vpack_VhVh_sat(high, low);
}

/* 128 int8 as four vectors of int32, in order. */
INLINE void widen(HVX_Vector bytes, HVX_Vector words[4])
{
    HVX_VectorPair halves = Q6_Wh_vunpack_Vb(bytes);
    HVX_VectorPair low = Q6_Ww_vunpack_Vh(Q6_V_lo_W(halves));
    HVX_VectorPair high = Q6_Ww_vunpack_Vh(Q6_V_hi_W(halves));
    words[0] = Q6_V_lo_W(low);
    words[1] = Q6_V_hi_W(low);
    words[2] = Q6_V_lo_W(high);
    words[3] = Q6_V_hi_W(high);
}

/* Transpose 32 x 32 words. Each stage interleaves rows i and i + 16: a rotation by one bit of the
   ten bits (row, lane) that address a word. Five of them swap row and lane. */
INLINE void transpose_words(HVX_Vector rows[WORDS])
{
    HVX_Vector next[WORDS];
#pragma unroll
    for (int stage = 0; stage < 5; stage++) {
#pragma unroll
        for (int i = 0; i < WORDS / 2; i++) {
            HVX_VectorPair pair = Q6_W_vshuff_VVR(rows[i + WORDS / 2], rows[i], -4);
            next[2 * i] = Q6_V_lo_W(pair);
            next[2 * i + 1] = Q6_V_hi_W(pair);
        }
#pragma unroll
        for (int i = 0; i < WORDS; i++)
            rows[i] = next[i];
    }
}

#endif
