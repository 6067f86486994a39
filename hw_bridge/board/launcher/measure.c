/* Calls that are timed, and kernels. */
#include "launcher.h"
#include "system.h"

static void give_back(struct launcher *l, struct buffer *buffer, int shared)
{
    if (buffer->data && shared)
        l->rpc.memory_free(buffer->data);
    else if (buffer->data)
        unmap_memory(buffer->data, buffer->bytes);
    *buffer = (struct buffer){NULL, 0};
}

int grow(struct launcher *l, struct buffer *buffer, size_t bytes, int shared)
{
    if (buffer->bytes >= bytes)
        return 1;
    size_t wanted = 1 << 16;
    while (wanted < bytes)
        wanted *= 2;
    give_back(l, buffer, shared);
    buffer->data = shared ? shared_alloc(&l->rpc, wanted) : map_memory(wanted);
    buffer->bytes = buffer->data ? wanted : 0;
    return buffer->data != NULL;
}

int measure_null_calls(struct launcher *l, int64_t warm, int64_t count, int64_t gap_us)
{
    if (!grow(l, &l->numbers, 8 * (size_t)count, 0))
        return say_failed(NO_MEMORY, "no memory for the times");
    int64_t *times = l->numbers.data;
    for (int64_t i = -warm; i < count; i++) {
        if (gap_us)
            sleep_us(gap_us);
        int64_t start = now_ns();
        int code = l->rpc.invoke(l->handle, SCALARS(NOTHING, 0, 0, 0, 0), NULL);
        int64_t end = now_ns();
        if (code)
            return say_rpc("null call", code);
        if (i >= 0)
            times[i] = end - start;
    }
    return say_tensor(INT64, times, (uint32_t)count);
}

/* Whether all bytes arrived; they differ from place to place, so that a shift is seen. */
static int arrived(const unsigned char *to, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (to[i] != (unsigned char)(i * 7 + (i >> 8)))
            return 0;
    return 1;
}

int measure_copies(struct launcher *l, int64_t bytes, int shared, int64_t warm, int64_t count)
{
    struct buffer from = {NULL, 0}, to = {NULL, 0};
    size_t size = (size_t)bytes, lap = sizeof(struct lap) / 8, step = lap + 1;
    if (!grow(l, &l->numbers, 8 * step * (size_t)count, 0) || !grow(l, &from, size, shared)
        || !grow(l, &to, size, shared)) {
        give_back(l, &from, shared);
        return say_failed(NO_MEMORY, "no memory for the buffers");
    }
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)from.data)[i] = (unsigned char)(i * 7 + (i >> 8));
    memset(to.data, 0, size);
    int64_t *numbers = l->numbers.data;
    int code = 0;
    for (int64_t i = -warm; i < count && !code; i++) {
        struct lap spent;
        union remote_argument a[] = {{.buffer = {from.data, size}},
                                     {.buffer = {to.data, size}},
                                     {.buffer = {&spent, sizeof spent}}};
        int64_t start = now_ns();
        code = l->rpc.invoke(l->handle, SCALARS(ECHO, 1, 2, 0, 0), a);
        int64_t end = now_ns();
        if (!code && i >= 0) {
            numbers[i * (int64_t)step] = end - start;
            memcpy(numbers + i * (int64_t)step + 1, &spent, sizeof spent);
        }
    }
    int fine = !code && arrived(to.data, size);
    give_back(l, &from, shared);
    give_back(l, &to, shared);
    if (code)
        return say_rpc("copy call", code);
    if (!fine)
        return say_failed(BAD_TENSORS, "the DSP gave other bytes back than it was given");
    return say_tensor(INT64, numbers, (uint32_t)(step * (size_t)count));
}

int run_kernel(struct launcher *l, size_t bytes)
{
    struct run_request request = l->next;
    l->next = (struct run_request){CALLS_VERSION, 1, 0};
    l->ran = (struct run_answer){.laps = 0};
    size_t laps = request.repetitions * sizeof(struct lap);
    if (!grow(l, &l->numbers, laps, 0))
        return say_failed(NO_MEMORY, "no memory for the laps");
    union remote_argument a[] = {{.buffer = {&request, sizeof request}},
                                 {.buffer = {l->frame.data, bytes}},
                                 {.buffer = {&l->ran, sizeof l->ran}},
                                 {.buffer = {l->numbers.data, laps}}};
    int64_t start = now_ns();
    int code = l->rpc.invoke(l->handle, SCALARS(RUN, 2, 2, 0, 0), a);
    l->ran_ns = now_ns() - start;
    if (code)
        return say_rpc("kernel call", code);
    size_t wanted = (size_t)l->ran.answer_bytes;
    if (l->ran.version != CALLS_VERSION || wanted > MAX_PAYLOAD || l->ran.laps > request.repetitions)
        return say_failed(BAD_VERSION, "the DSP's library speaks another version");
    if (!grow(l, &l->answer, wanted, 1))
        return say_failed(NO_MEMORY, "no shared memory for the answer");
    union remote_argument out = {.buffer = {l->answer.data, wanted}};
    code = l->rpc.invoke(l->handle, SCALARS(FETCH, 0, 1, 0, 0), &out);
    if (code)
        return say_rpc("fetch call", code);
    return write_all(l->answer.data, wanted);
}

int say_laps(struct launcher *l)
{
    int64_t values[] = {l->ran.laps, l->ran.clock_hz[0], l->ran.clock_hz[1], l->ran_ns};
    uint32_t elements = (uint32_t)(l->ran.laps * sizeof(struct lap) / 8);
    return say_both(values, 4, l->numbers.data, elements);
}
