#include "memory_wire.h"

#include "system.h"
#include "wire.h"

static const char *source, *source_end;
static char *sink, *sink_end;

void memory_wire_read(const void *from, size_t bytes)
{
    source = from;
    source_end = source + bytes;
}

void memory_wire_write(void *to, size_t bytes)
{
    sink = to;
    sink_end = sink + bytes;
}

int wire_read(void *to, size_t size)
{
    if (size > (size_t)(source_end - source))
        return 0;
    memcpy(to, source, size);
    source += size;
    return 1;
}

int wire_write(const void *from, size_t size)
{
    if (size > (size_t)(sink_end - sink))
        return 0;
    memcpy(sink, from, size);
    sink += size;
    return 1;
}
