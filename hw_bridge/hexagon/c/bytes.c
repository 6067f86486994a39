#include "hvx.h"
#include "system.h"

void *memcpy(void *to, const void *from, size_t size)
{
    char *target = to;
    const char *source = from;
    for (; size >= VLEN; size -= VLEN, target += VLEN, source += VLEN)
        store_any(target, load_any(source), VLEN);
    for (; size; size--)
        *target++ = *source++;
    return to;
}

void *memset(void *to, int value, size_t size)
{
    HVX_Vector bytes = Q6_V_vsplat_R((value & 0xff) * 0x01010101);
    char *target = to;
    for (; size >= VLEN; size -= VLEN, target += VLEN)
        store_any(target, bytes, VLEN);
    for (; size; size--)
        *target++ = (char)value;
    return to;
}

size_t strlen(const char *text)
{
    size_t n = 0;
    while (text[n])
        n++;
    return n;
}
