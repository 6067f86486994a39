/* One call of a kernel: what came in, what goes out, and the memory in between. */
#ifndef MANDHELING_JOB_H
#define MANDHELING_JOB_H

#include "frame.h"
#include "hvx.h"
#include "team.h"

#define MAX_PARAMS 96
#define MAX_TENSORS 72
#define MAX_VALUES 8
#define MAX_ELEMENTS (1u << 28) /* of a tensor: a 32-bit address space holds a few of them */

struct tensor {
    uint32_t dtype;
    uint32_t elements;
    void *data; /* aligned to a vector, with SLACK bytes behind it */
};

struct job {
    struct team team;
    const int64_t *params;
    int param_count;
    struct tensor in[MAX_TENSORS], out[MAX_VALUES];
    int in_count, out_count;
    int64_t values[MAX_VALUES];
    int value_count;
    size_t held; /* bytes of the arena in use */
    int status;
    char message[200];
};

/* Memory for this job, aligned, with SLACK bytes behind it; NULL ends the job with NO_MEMORY. */
void *job_memory(struct job *job, uint64_t bytes);
/* The same, filled with 0. */
void *job_zeros(struct job *job, uint64_t bytes);
/* Give back all memory asked for since job->held was this; no output may be among it. */
void job_release(struct job *job, size_t held);
/* A tensor to send back. */
void *job_output(struct job *job, uint32_t dtype, uint64_t elements);
/* Send an input back: a kernel that works in place. */
void job_return(struct job *job, int input);
void job_value(struct job *job, int64_t value);

/* End the job with a status and a message; always 0, so that "return job_fail(...)" reads well.
   Formats: %s, and %d for an int64_t. */
int job_fail(struct job *job, int status, const char *format, ...);

/* Whether param i lies in low .. high; otherwise the job has failed. */
int job_check(struct job *job, int i, int64_t low, int64_t high, const char *name);
/* Whether tensor i has this type and size; otherwise the job has failed. */
int job_expect(struct job *job, int i, uint32_t dtype, int64_t elements, const char *name);

/* A kernel gives 1 when it is done, and 0 when it has failed and said why. */
struct kernel {
    int id;
    const char *name;
    int params, tensors; /* how many it takes; -1: it looks itself */
    int (*run)(struct job *job);
};

extern const struct kernel KERNELS[];
extern const int KERNEL_COUNT;

/* Run the kernel of this number on the job, and count what it takes; what it may not be given
   fails the job. */
void kernel_run(uint32_t id, struct job *job);

#endif
