/* The methods of our library and the records that they fill in: the launcher (64 bit) and the
   DSP (32 bit) read the same bytes, little-endian. A method gives 0 whenever its buffers are those
   listed here; how it went stands in the record, since some kernels drop the buffers of a call
   that gives anything else. */
#ifndef MANDHELING_CALLS_H
#define MANDHELING_CALLS_H

#include <stdint.h>

#define CALLS_VERSION 1

enum method {
    OPEN,  /* in: length (u32), URI; handle out */
    CLOSE, /* handle in */
    NOTHING,
    INFO,  /* out: struct info */
    POWER, /* in: struct power_request; out: struct power_answer */
    RUN,   /* in: struct run_request, a frame of wire.h; out: struct run_answer, struct lap[] */
    FETCH, /* out: the answer of the last run as a frame of wire.h, in whole */
    ARENA, /* in: bytes (u64); out: status (i32); memory handle in */
    ECHO,  /* in: bytes; out: as many, struct lap */
};

#define NO_IMPORT (-1000) /* a status: this firmware lacks the function that was to be called */

/* Readings before and after: 19.2 MHz ticks, processor cycles, packets. A counter that user
   processes may not read stays 0. */
struct lap {
    uint64_t ticks[2], cycles[2], packets[2];
};

struct info {
    uint32_t version;
    uint32_t arch;         /* this build's, such as 0x68 -> 68 */
    uint32_t bare;         /* 1: built without kernels and imports */
    uint32_t threads;      /* most threads of a kernel */
    uint32_t hvx_contexts; /* of 128 bytes; 0: unknown */
    uint32_t vtcm_bytes;   /* in all; 0: unknown */
    uint32_t arena_bytes;
    uint32_t clock_hz;     /* 0: unknown */
    struct lap loop;       /* around LOOP_PACKETS packets: which counters count */
};

#define LOOP_PACKETS 100000

struct power_request {
    uint32_t vote;   /* 1: hold clocks at the corner; 0: give the vote back */
    uint32_t corner; /* of core and bus */
};

struct power_answer {
    int32_t status;    /* of the call, or NO_IMPORT */
    uint32_t interface; /* which form of request was taken: 3, 2, or 0 for none */
    uint32_t clock_hz;
};

struct run_request {
    uint32_t version, repetitions, warm;
};

#define MAX_LAPS 4096

struct run_answer {
    uint32_t version;
    uint32_t clock_hz[2]; /* before and after */
    uint32_t laps;        /* of the kernel's repetitions that ran */
    uint64_t answer_bytes;
};

#endif
