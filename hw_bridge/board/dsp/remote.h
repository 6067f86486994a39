/* What FastRPC hands to a library on the DSP: 32-bit addresses, elements of 8 bytes.

   The word of scalars: method in bits 28..24, input buffers in 23..16, output buffers in 15..8,
   input handles in 7..4, output handles in 3..0; the elements come in this order. */
#ifndef MANDHELING_REMOTE_H
#define MANDHELING_REMOTE_H

#include <stdint.h>

union remote_argument {
    struct {
        void *data;
        uint32_t bytes;
    } buffer;
    struct {
        int32_t fd;
        uint32_t offset;
    } memory;
    uint64_t handle;
};

#define SCALARS(method, in, out, handles_in, handles_out)                                          \
    ((uint32_t)(method) << 24 | (in) << 16 | (out) << 8 | (handles_in) << 4 | (handles_out))

/* Refusals in FastRPC's own numbers, from the DSP's side. */
#define REFUSED_STATE 0x8000040d
#define REFUSED_PARAMETER 0x8000040e
#define REFUSED_HANDLE 0x8000042c

#endif
