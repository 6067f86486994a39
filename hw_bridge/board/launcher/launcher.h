/* Orders on stdin, answers on stdout, in the frames of frame.h. A kernel's number is passed on to
   the DSP; the numbers below are the launcher's own. hw_bridge/board/protocol.py has the same. */
#ifndef MANDHELING_LAUNCHER_H
#define MANDHELING_LAUNCHER_H

#include "../dsp/calls.h"
#include "../../hexagon/c/frame.h"
#include "rpc.h"

enum order {
    LOAD = 1000, /* -> name of the library, as int8 */
    ATTRIBUTES,  /* -> (code, value) of attributes 0 .. 15, int64 */
    SESSION,     /* stack bytes -> codes of: unsigned module, stack */
    OPEN_URI,    /* int8 URI */
    MEMORY,      /* bytes: what jobs on the DSP share out */
    TELL,        /* -> struct info, as int64 */
    VOTE,        /* vote, corner -> status, form, Hz */
    LATENCY,     /* mode, us -> code */
    STEADY,      /* CPU or -1, keep awake -> errno of each */
    NULL_CALLS,  /* warm, count, gap us -> ns of each */
    COPIES,      /* bytes, shared memory, warm, count -> ns of each; laps */
    REPEAT,      /* repetitions, warm: of the next kernel */
    LAPS,        /* -> of the last kernel: laps, Hz before and after, ns of the call */
    LEAVE,       /* close what is open */
};
#define FIRST_ORDER LOAD

struct buffer {
    void *data;
    size_t bytes;
};

struct launcher {
    struct rpc rpc;
    int loaded;
    uint64_t handle;
    int opened;
    struct buffer frame, answer, memory; /* shared with the DSP */
    struct buffer numbers;               /* what is sent back, and laps */
    struct run_request next;             /* of the next kernel */
    struct run_answer ran;
    int64_t ran_ns;
};

/* Answers; each gives 0 where nobody reads. A failed call's text is "<call> 0x<code>". */
int say_values(const int64_t *values, uint32_t count);
int say_tensor(uint32_t dtype, const void *data, uint32_t elements);
int say_both(const int64_t *values, uint32_t count, const int64_t *data, uint32_t elements);
int say_failed(uint32_t status, const char *text);
int say_rpc(const char *call, int code);

/* At least so many bytes, shared with the DSP or not; 0 if there are none. */
int grow(struct launcher *l, struct buffer *buffer, size_t bytes, int shared);

int measure_null_calls(struct launcher *l, int64_t warm, int64_t count, int64_t gap_us);
int measure_copies(struct launcher *l, int64_t bytes, int shared, int64_t warm, int64_t count);
/* The frame in l->frame, so many bytes, to the DSP; its answer to stdout. */
int run_kernel(struct launcher *l, size_t bytes);
int say_laps(struct launcher *l);

#endif
