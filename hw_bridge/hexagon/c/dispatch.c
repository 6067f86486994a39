#include "counters.h"
#include "job.h"

void kernel_run(uint32_t id, struct job *job)
{
    const struct kernel *kernel = NULL;
    for (int i = 0; i < KERNEL_COUNT; i++)
        if (KERNELS[i].id == (int)id)
            kernel = &KERNELS[i];
    if (!kernel) {
        job_fail(job, BAD_KERNEL, "no kernel has the number %d", (int64_t)id);
        return;
    }
    if ((kernel->params >= 0 && job->param_count != kernel->params)
        || (kernel->tensors >= 0 && job->in_count != kernel->tensors)) {
        job_fail(job, BAD_PARAMS, "%s got %d parameters and %d tensors; allowed: %d and %d",
                 kernel->name, (int64_t)job->param_count, (int64_t)job->in_count,
                 (int64_t)kernel->params, (int64_t)kernel->tensors);
        return;
    }
    struct counts start = read_counts();
    kernel->run(job);
    struct counts end = read_counts();
    job->team.packets += end.packets - start.packets;
    job->team.instructions += end.instructions - start.instructions;
    job->team.hvx += end.hvx - start.hvx;
    job->team.busiest += end.packets - start.packets;
}
