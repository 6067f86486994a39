/* Frames through stdin and stdout, for the runner. */
#include "system.h"
#include "wire.h"

int wire_read(void *to, size_t size)
{
    char *at = to;
    while (size) {
        long got = system_read(0, at, size);
        if (got <= 0)
            return 0;
        at += got;
        size -= (size_t)got;
    }
    return 1;
}

int wire_write(const void *from, size_t size)
{
    const char *at = from;
    while (size) {
        long put = system_write(1, at, size);
        if (put <= 0)
            return 0;
        at += put;
        size -= (size_t)put;
    }
    return 1;
}
