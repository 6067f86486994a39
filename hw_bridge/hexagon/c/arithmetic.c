/* What the compiler calls for what Hexagon has no instruction for. Divisions happen a few times per
   call or row of a kernel, never per element: bit by bit from the highest one will do. */
#include <stddef.h>
#include <stdint.h>

#include "system.h"

static uint64_t divide(uint64_t a, uint64_t b, uint64_t *rest)
{
    uint64_t quotient = 0, left = 0;
    for (int bit = a ? 63 - __builtin_clzll(a) : -1; bit >= 0; bit--) {
        left = left << 1 | (a >> bit & 1);
        if (left >= b) {
            left -= b;
            quotient |= 1ULL << bit;
        }
    }
    *rest = left;
    return quotient;
}

static int64_t divide_signed(int64_t a, int64_t b, int64_t *rest)
{
    uint64_t left;
    uint64_t most = divide(a < 0 ? 0 - (uint64_t)a : (uint64_t)a,
                           b < 0 ? 0 - (uint64_t)b : (uint64_t)b, &left);
    *rest = (int64_t)(a < 0 ? 0 - left : left);
    return (int64_t)((a < 0) != (b < 0) ? 0 - most : most);
}

#define UNSIGNED(type, size)                                                                       \
    type __hexagon_udiv##size(type a, type b)                                                      \
    {                                                                                              \
        uint64_t rest;                                                                             \
        return (type)divide(a, b, &rest);                                                          \
    }                                                                                              \
    type __hexagon_umod##size(type a, type b)                                                      \
    {                                                                                              \
        uint64_t rest;                                                                             \
        divide(a, b, &rest);                                                                       \
        return (type)rest;                                                                         \
    }
#define SIGNED(type, size)                                                                         \
    type __hexagon_div##size(type a, type b)                                                       \
    {                                                                                              \
        int64_t rest;                                                                              \
        return (type)divide_signed(a, b, &rest);                                                   \
    }                                                                                              \
    type __hexagon_mod##size(type a, type b)                                                       \
    {                                                                                              \
        int64_t rest;                                                                              \
        divide_signed(a, b, &rest);                                                                \
        return (type)rest;                                                                         \
    }

UNSIGNED(uint32_t, si3)
UNSIGNED(uint64_t, di3)
SIGNED(int32_t, si3)
SIGNED(int64_t, di3)

void *__hexagon_memcpy_likely_aligned_min32bytes_mult8bytes(void *to, const void *from, size_t size)
{
    return memcpy(to, from, size);
}
