/* What the emulator counts: packets, instructions and HVX instructions of this thread.

   The control registers c20, c21 and c22 are inventions of QEMU; a board has none of them, and no
   library for a board may read them. The assembler does not know their names, so the words are
   "r0 = c20", "r0 = c21" and "r0 = c22". They count modulo 2^32: take differences of times
   that are shorter. */
#ifndef MANDHELING_COUNTERS_H
#define MANDHELING_COUNTERS_H

#include <stdint.h>

struct counts {
    uint32_t packets, instructions, hvx;
};

#ifdef MANDHELING_BOARD
/* A board is timed from outside the kernels, by clocks that it really has. */
static inline struct counts read_counts(void) { return (struct counts){0, 0, 0}; }
#else
static inline __attribute__((always_inline)) struct counts read_counts(void)
{
    struct counts now;
    __asm__ volatile(".word 0x6a14c000\n\t%0 = r0" : "=r"(now.packets) : : "r0");
    __asm__ volatile(".word 0x6a15c000\n\t%0 = r0" : "=r"(now.instructions) : : "r0");
    __asm__ volatile(".word 0x6a16c000\n\t%0 = r0" : "=r"(now.hvx) : : "r0");
    return now;
}
#endif

#endif
