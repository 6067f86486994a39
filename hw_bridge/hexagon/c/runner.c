/* The runner: reads requests from stdin until it ends, runs the kernels that they name, and
   answers on stdout. It answers what it cannot run with a status and a text; it leaves with 2
   where the input is no longer a sequence of frames. */
#include "system.h"
#include "wire.h"

/* Whether more frames may follow. */
static int serve(struct job *job)
{
    struct request request;
    if (!wire_read(&request, 1)) /* the end, between two frames */
        system_exit(0);
    if (!wire_read((char *)&request + 1, sizeof request - 1))
        return job_fail(job, BAD_FRAME, "the input ends within a frame");
    if (request.magic != REQUEST_MAGIC)
        return job_fail(job, BAD_FRAME, "a frame starts with %d; allowed: %d",
                        (int64_t)request.magic, (int64_t)REQUEST_MAGIC);
    if (request.payload > MAX_PAYLOAD)
        return job_fail(job, BAD_FRAME, "a payload of %d bytes; allowed: %d",
                        (int64_t)request.payload, (int64_t)MAX_PAYLOAD);
    int found = wire_payload(&request, job);
    if (found < 0)
        return job_fail(job, BAD_FRAME, "the input ends within a frame");
    uint32_t threads = request.threads & ~IN_TURN;
    if (request.version != WIRE_VERSION)
        job_fail(job, BAD_VERSION, "version %d; allowed: %d", (int64_t)request.version,
                 (int64_t)WIRE_VERSION);
    else if (found && (threads < 1 || threads > MAX_THREADS))
        job_fail(job, BAD_PARAMS, "threads is %d; allowed: 1 .. %d", (int64_t)threads,
                 (int64_t)MAX_THREADS);
    else if (found) {
        job->team.threads = (int)threads;
        job->team.in_turn = (request.threads & IN_TURN) != 0;
        kernel_run(request.kernel, job);
    }
    return 1;
}

int main(void)
{
    static struct job job;
    for (int more = 1; more;) {
        memset(&job, 0, sizeof job);
        more = serve(&job);
        int heard = wire_answer(&job);
        job_release(&job, 0);
        if (!heard)
            return 1;
    }
    return 2;
}
