/* The frames on stdin and stdout; little-endian, as Hexagon is.

   Request: magic "MHQ1", version, kernel, threads, parameters (count), tensors (count), all u32;
   payload bytes, u64. The payload: parameters, i64 each; per tensor its type (u32: bytes of an
   element) and elements (u32); then the tensors one after the other, without gaps.

   Answer: magic "MHA1", version, status, values (count), tensors (count), text bytes, all u32;
   payload bytes, packets, instructions, HVX instructions (all threads), packets of the busiest
   thread, u64 each. The payload: values, i64 each; tensors as above; the text, only of an error. */
#ifndef MANDHELING_WIRE_H
#define MANDHELING_WIRE_H

#include "job.h"

#define WIRE_VERSION 1
#define REQUEST_MAGIC 0x3151484dU /* "MHQ1" */
#define ANSWER_MAGIC 0x3141484dU  /* "MHA1" */
#define MAX_PAYLOAD (1ULL << 29)

struct request {
    uint32_t magic, version, kernel, threads, params, tensors;
    uint64_t payload;
};

struct answer {
    uint32_t magic, version, status, values, tensors, text;
    uint64_t payload, packets, instructions, hvx, busiest;
};

/* Read exactly size bytes; 0 at the end of the input. Where the bytes come from and go to is chosen
   at link time: stdin and stdout (pipe.c), or the buffers of a call on a board. */
int wire_read(void *to, size_t size);
int wire_write(const void *from, size_t size);

/* Read a frame's payload into the job; 0 where its sizes do not fit (the payload is read all the
   same, so that the next frame is found), -1 at the end of the input. */
int wire_payload(const struct request *request, struct job *job);

/* Send what the job has to say; 0 where nobody reads it. */
int wire_answer(const struct job *job);

#endif
