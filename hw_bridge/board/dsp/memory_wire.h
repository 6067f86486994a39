/* Frames in the buffers of a call; wire.h reads and writes them. */
#ifndef MANDHELING_MEMORY_WIRE_H
#define MANDHELING_MEMORY_WIRE_H

#include <stddef.h>

void memory_wire_read(const void *from, size_t bytes);
void memory_wire_write(void *to, size_t bytes);

#endif
