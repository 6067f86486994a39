#include "launcher.h"
#include "system.h"

static int say(uint32_t status, uint32_t values, uint32_t tensors, uint32_t text, uint64_t payload)
{
    struct answer answer = {.magic = ANSWER_MAGIC,
                            .version = WIRE_VERSION,
                            .status = status,
                            .values = values,
                            .tensors = tensors,
                            .text = text,
                            .payload = payload};
    return write_all(&answer, sizeof answer);
}

int say_values(const int64_t *values, uint32_t count)
{
    return say(DONE, count, 0, 0, 8ULL * count) && write_all(values, 8ULL * count);
}

int say_tensor(uint32_t dtype, const void *data, uint32_t elements)
{
    uint32_t head[2] = {dtype, elements};
    uint64_t bytes = (uint64_t)dtype * elements;
    return say(DONE, 0, 1, 0, sizeof head + bytes) && write_all(head, sizeof head)
           && write_all(data, bytes);
}

int say_both(const int64_t *values, uint32_t count, const int64_t *data, uint32_t elements)
{
    uint32_t head[2] = {INT64, elements};
    return say(DONE, count, 1, 0, 8ULL * count + sizeof head + 8ULL * elements)
           && write_all(values, 8ULL * count) && write_all(head, sizeof head)
           && write_all(data, 8ULL * elements);
}

int say_failed(uint32_t status, const char *text)
{
    uint32_t length = (uint32_t)text_length(text);
    return say(status, 0, 0, length, length) && write_all(text, length);
}

int say_rpc(const char *call, int code)
{
    char text[80];
    size_t at = 0;
    for (; *call && at < sizeof text - 12; call++)
        text[at++] = *call;
    text[at++] = ' ';
    text[at++] = '0';
    text[at++] = 'x';
    for (int shift = 28; shift >= 0; shift -= 4)
        text[at++] = "0123456789abcdef"[(uint32_t)code >> shift & 15];
    text[at] = 0;
    return say_failed(RPC_FAILED, text);
}
