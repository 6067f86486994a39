/* The one entry of the library: every call of FastRPC, its counts and lengths checked first. */
#include "board.h"
#include "clocks.h"
#include "memory_wire.h"
#include "remote.h"
#include "system.h"

#ifndef MANDHELING_BARE
#include "job.h"
#include "wire.h"

static struct job last;
#endif

static char opened; /* its address is the handle: one for each that loads this library */
static int closed;  /* by then the memory is gone to which kernels point: only a fresh load opens */

static uint32_t bytes_of(const union remote_argument *a) { return a->buffer.bytes; }

static int open_library(union remote_argument *a)
{
    if (bytes_of(&a[0]) != 4)
        return (int)REFUSED_PARAMETER;
    if (closed)
        return (int)REFUSED_STATE;
    a[2].handle = (uintptr_t)&opened;
    return 0;
}

static int tell(union remote_argument *a)
{
    if (bytes_of(&a[0]) != sizeof(struct info))
        return (int)REFUSED_PARAMETER;
    struct info info = {.version = CALLS_VERSION, .arch = __HEXAGON_ARCH__};
#ifdef MANDHELING_BARE
    info.bare = 1;
#else
    info.threads = MAX_THREADS;
    info.hvx_contexts = board_hvx_contexts();
    info.vtcm_bytes = board_vtcm_bytes();
    info.arena_bytes = (uint32_t)system_arena_bytes();
    info.clock_hz = board_clock_hz();
#endif
    clocks_start(&info.loop);
    clocks_wait(LOOP_PACKETS);
    clocks_stop(&info.loop);
    memcpy(a[0].buffer.data, &info, sizeof info);
    return 0;
}

static int echo(union remote_argument *a)
{
    if (bytes_of(&a[0]) != bytes_of(&a[1]) || bytes_of(&a[2]) != sizeof(struct lap))
        return (int)REFUSED_PARAMETER;
    struct lap lap;
    clocks_start(&lap);
    memcpy(a[1].buffer.data, a[0].buffer.data, bytes_of(&a[0]));
    clocks_stop(&lap);
    memcpy(a[2].buffer.data, &lap, sizeof lap);
    return 0;
}

#ifndef MANDHELING_BARE

/* Read the frame into the job; the job has failed where it is none. */
static int read_frame(const union remote_argument *frame, struct request *request)
{
    memory_wire_read(frame->buffer.data, bytes_of(frame));
    if (!wire_read(request, sizeof *request) || request->magic != REQUEST_MAGIC
        || request->version != WIRE_VERSION
        || request->payload != bytes_of(frame) - sizeof *request)
        return job_fail(&last, BAD_FRAME, "a call's buffer of %d bytes holds no frame",
                        (int64_t)bytes_of(frame));
    return wire_payload(request, &last) > 0;
}

/* One repetition from fresh inputs: some kernels work in place. */
static int repeat(const union remote_argument *frame, struct lap *lap)
{
    struct request request;
    job_release(&last, 0);
    memset(&last, 0, sizeof last);
    uint32_t contexts = board_hvx_contexts();
    if (!read_frame(frame, &request))
        return 0;
    uint32_t most = contexts && contexts < MAX_THREADS ? contexts : MAX_THREADS;
    if (request.threads < 1 || request.threads > most)
        return job_fail(&last, BAD_PARAMS, "threads is %d; allowed: 1 .. %d, HVX contexts here",
                        (int64_t)request.threads, (int64_t)most);
    last.team.threads = (int)request.threads;
    clocks_start(lap);
    kernel_run(request.kernel, &last);
    clocks_stop(lap);
    return last.status == DONE;
}

static int run(union remote_argument *a)
{
    struct run_request request;
    struct run_answer answer = {.version = CALLS_VERSION};
    if (bytes_of(&a[0]) != sizeof request || bytes_of(&a[2]) != sizeof answer
        || bytes_of(&a[1]) < sizeof(struct request))
        return (int)REFUSED_PARAMETER;
    memcpy(&request, a[0].buffer.data, sizeof request);
    if (request.version != CALLS_VERSION || request.repetitions < 1
        || request.repetitions > MAX_LAPS || request.warm > MAX_LAPS
        || bytes_of(&a[3]) != request.repetitions * sizeof(struct lap))
        return (int)REFUSED_PARAMETER;
    struct lap *laps = a[3].buffer.data, spare;
    answer.clock_hz[0] = board_clock_hz();
    int fine = 1;
    for (uint32_t i = 0; fine && i < request.warm; i++)
        fine = repeat(&a[1], &spare);
    for (; fine && answer.laps < request.repetitions; answer.laps += (uint32_t)fine) {
        fine = repeat(&a[1], &spare);
        memcpy(&laps[answer.laps], &spare, sizeof spare);
    }
    answer.clock_hz[1] = board_clock_hz();
    answer.answer_bytes = wire_answer_bytes(&last);
    memcpy(a[2].buffer.data, &answer, sizeof answer);
    return 0;
}

static int fetch(union remote_argument *a)
{
    if (bytes_of(&a[0]) != wire_answer_bytes(&last))
        return (int)REFUSED_PARAMETER;
    memory_wire_write(a[0].buffer.data, bytes_of(&a[0]));
    wire_answer(&last);
    return 0;
}

static int vote(union remote_argument *a)
{
    struct power_request request;
    struct power_answer answer;
    if (bytes_of(&a[0]) != sizeof request || bytes_of(&a[1]) != sizeof answer)
        return (int)REFUSED_PARAMETER;
    memcpy(&request, a[0].buffer.data, sizeof request);
    board_power(&request, &answer);
    memcpy(a[1].buffer.data, &answer, sizeof answer);
    return 0;
}

static int give_arena(union remote_argument *a)
{
    uint64_t bytes;
    if (bytes_of(&a[0]) != sizeof bytes || bytes_of(&a[1]) != 4)
        return (int)REFUSED_PARAMETER;
    memcpy(&bytes, a[0].buffer.data, sizeof bytes);
    int32_t status = board_arena(a[2].memory.fd, bytes);
    memcpy(a[1].buffer.data, &status, sizeof status);
    return 0;
}

#endif

static int close_library(const union remote_argument *a)
{
    if (a[0].handle != (uintptr_t)&opened || closed)
        return (int)REFUSED_HANDLE;
    closed = 1;
#ifndef MANDHELING_BARE
    board_release();
#endif
    return 0;
}

__attribute__((visibility("default"))) int
mandheling_skel_handle_invoke(uint64_t handle, uint32_t scalars, union remote_argument *a)
{
    if (scalars == SCALARS(OPEN, 2, 0, 0, 1)) /* comes before there is a handle */
        return open_library(a);
    if (scalars == SCALARS(CLOSE, 0, 0, 1, 0))
        return close_library(a);
    if (handle != (uintptr_t)&opened || closed)
        return (int)REFUSED_HANDLE;
    switch (scalars) {
    case SCALARS(NOTHING, 0, 0, 0, 0):
        return 0;
    case SCALARS(INFO, 0, 1, 0, 0):
        return tell(a);
    case SCALARS(ECHO, 1, 2, 0, 0):
        return echo(a);
#ifndef MANDHELING_BARE
    case SCALARS(POWER, 1, 1, 0, 0):
        return vote(a);
    case SCALARS(RUN, 2, 2, 0, 0):
        return run(a);
    case SCALARS(FETCH, 0, 1, 0, 0):
        return fetch(a);
    case SCALARS(ARENA, 1, 1, 1, 0):
        return give_arena(a);
#endif
    }
    return (int)REFUSED_PARAMETER;
}
