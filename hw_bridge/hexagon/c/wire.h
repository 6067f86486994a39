/* Jobs from frames, and frames from jobs. */
#ifndef MANDHELING_WIRE_H
#define MANDHELING_WIRE_H

#include "job.h"

/* Read exactly size bytes; 0 at the end of the input. Where the bytes come from and go to is chosen
   at link time: stdin and stdout (pipe.c), or the buffers of a call on a board. */
int wire_read(void *to, size_t size);
int wire_write(const void *from, size_t size);

/* Read a frame's payload into the job; 0 where its sizes do not fit (the payload is read all the
   same, so that the next frame is found), -1 at the end of the input. */
int wire_payload(const struct request *request, struct job *job);

/* Send what the job has to say; 0 where nobody reads it. */
int wire_answer(const struct job *job);
/* How many bytes that is. */
uint64_t wire_answer_bytes(const struct job *job);

#endif
