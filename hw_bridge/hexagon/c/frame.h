/* The frames on stdin and stdout; little-endian, as Hexagon is.

   Request: magic "MHQ1", version, kernel, threads, parameters (count), tensors (count), all u32;
   payload bytes, u64. The payload: parameters, i64 each; per tensor its type (u32: bytes of an
   element) and elements (u32); then the tensors one after the other, without gaps.

   Answer: magic "MHA1", version, status, values (count), tensors (count), text bytes, all u32;
   payload bytes, packets, instructions, HVX instructions (all threads), packets of the busiest
   thread, u64 each. The payload: values, i64 each; tensors as above; the text, only of an error.

   Nothing here is a DSP's own: the launcher on a board's CPU includes this file too. */
#ifndef MANDHELING_FRAME_H
#define MANDHELING_FRAME_H

#include <stdint.h>

enum dtype { INT8 = 1, INT32 = 4, INT64 = 8 }; /* the number is the size in bytes */

enum status {
    DONE,
    BAD_FRAME,
    BAD_VERSION,
    BAD_KERNEL,
    BAD_PARAMS,
    BAD_TENSORS,
    NO_MEMORY,
    WRAPPED,
    RPC_FAILED /* of a board: "<call> 0x<code>" is the text */
};

#define WIRE_VERSION 1
#define REQUEST_MAGIC 0x3151484dU /* "MHQ1" */
#define ANSWER_MAGIC 0x3141484dU  /* "MHA1" */
#define MAX_PAYLOAD (1ULL << 29)
#define IN_TURN 0x100u /* beside the threads: one after the other, for counts that repeat exactly;
                          the runner in the emulator knows it, a board does not */

struct request {
    uint32_t magic, version, kernel, threads, params, tensors;
    uint64_t payload;
};

struct answer {
    uint32_t magic, version, status, values, tensors, text;
    uint64_t payload, packets, instructions, hvx, busiest;
};

#endif
