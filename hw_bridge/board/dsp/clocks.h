/* Clocks that a DSP really has: 19.2 MHz ticks (c31:30), cycles (c15:14), packets (c19:18). The
   last two read 0 where the system keeps them from user processes; the emulator reads 0 for all. */
#ifndef MANDHELING_CLOCKS_H
#define MANDHELING_CLOCKS_H

#include "calls.h"

static inline void clocks_read(struct lap *lap, int at)
{
    uint64_t ticks, cycles, packets;
    __asm__ volatile("%0 = c31:30" : "=r"(ticks) : : "memory");
    __asm__ volatile("%0 = c15:14" : "=r"(cycles) : : "memory");
    __asm__ volatile("%0 = c19:18" : "=r"(packets) : : "memory");
    lap->ticks[at] = ticks;
    lap->cycles[at] = cycles;
    lap->packets[at] = packets;
}

static inline void clocks_start(struct lap *lap) { clocks_read(lap, 0); }

static inline void clocks_stop(struct lap *lap) { clocks_read(lap, 1); }

/* A loop of so many packets. */
static inline void clocks_wait(uint32_t packets)
{
    __asm__ volatile("loop0(1f, %0)\n"
                     "1:\n\t"
                     "{ nop }:endloop0"
                     :
                     : "r"(packets)
                     : "sa0", "lc0", "memory");
}

#endif
