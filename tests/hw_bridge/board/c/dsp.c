/* A DSP for tests: loads the very library that a board would get, and serves its calls.

   Runs in the Hexagon emulator. Loads two segments, applies the relocations, and gives the library
   the functions of a DSP's system that it imports: QuRT's threads are threads of the emulator,
   clocks and votes are made up and say so by being round numbers. stdin: version of the DSP, size of
   the library, whether there is a timer, the library; then calls. stdout: a result after each. */
#include "calls.h"
#include "frame.h"
#include "system.h"
#include "wire.h"

#define UNABLE_TO_LOAD 0x80000406
#define NO_SYMBOL 0x80000442
#define PAGE 4096u

static long map_executable(void *at, size_t bytes)
{
    register long r0 __asm__("r0") = (long)at;
    register long r1 __asm__("r1") = (long)bytes;
    register long r2 __asm__("r2") = 7;
    register long r6 __asm__("r6") = 226;
    __asm__ volatile("trap0(#1)" : "+r"(r0) : "r"(r1), "r"(r2), "r"(r6) : "memory");
    return r0;
}

/* The system of this DSP. */

static uint32_t clock_hz = 500000000;
static struct thread threads[64];
static int thread_count;

static void *hap_mmap(void *at, int bytes, int protection, int flags, int fd, long offset)
{
    (void)at, (void)protection, (void)flags, (void)offset;
    return fd < 0 ? (void *)-1 : system_map((size_t)bytes);
}

static int hap_munmap(void *at, int bytes) { return (void)at, (void)bytes, 0; }

static int hap_power_set(void *client, void *request)
{
    const uint8_t *r = request;
    (void)client;
    if (r[0] != 12)
        return -3;
    clock_hz = r[16] ? 200000000u * r[20] : 500000000u;
    return 0;
}

static int hap_power_get(void *client, void *answer)
{
    (void)client;
    memcpy((char *)answer + 8, &clock_hz, 4);
    return 0;
}

static void hap_power_destroy_client(void *client) { (void)client; }

static int query_vtcm(unsigned app, unsigned *total, void *pages, unsigned *left, void *left_pages)
{
    (void)app, (void)pages, (void)left_pages;
    *total = *left = 2 << 20;
    return 0;
}

static int hvx_units(void) { return 4 << 8; }

static int start_thread(unsigned *id, void *attributes, void (*work)(void *), void *context)
{
    uint32_t bytes;
    char *stack;
    memcpy(&bytes, (char *)attributes + 24, 4);
    memcpy(&stack, (char *)attributes + 28, 4);
    *id = (unsigned)thread_count++ % 64;
    return !thread_start(&threads[*id], stack, bytes, work, context);
}

static int join_thread(unsigned id, int *status)
{
    thread_join(&threads[id]);
    return *status = 0;
}

static unsigned thread_id(void) { return 0; }
static int priority(unsigned id) { return (void)id, 128; }

static const struct {
    const char *name;
    void *at;
} SYSTEM[] = {
    {"HAP_mmap", hap_mmap},
    {"HAP_munmap", hap_munmap},
    {"HAP_power_set", hap_power_set},
    {"HAP_power_get", hap_power_get},
    {"HAP_power_destroy_client", hap_power_destroy_client},
    {"compute_resource_query_VTCM", query_vtcm},
    {"qurt_hvx_get_units", hvx_units},
    {"qurt_thread_create", start_thread},
    {"qurt_thread_join", join_thread},
    {"qurt_thread_get_id", thread_id},
    {"qurt_thread_get_priority", priority},
};

/* The loader. */

struct header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version, entry, segments_at, sections_at, flags;
    uint16_t size, segment_size, segments, section_size, sections, names;
};
struct segment {
    uint32_t type, at, address, physical, file_bytes, bytes, flags, align;
};
struct relocation {
    uint32_t at, info, addend;
};
struct symbol {
    uint32_t name, value, size;
    uint8_t info, other;
    uint16_t section;
};

static char *base;
static uint32_t timer; /* whether it counts */
static uint32_t dynamic[32];

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static int failed(uint32_t code) { return (int)code; }

static int relocate(uint32_t at, uint32_t bytes)
{
    const struct relocation *r = (void *)(base + at);
    const struct symbol *symbols = (void *)(base + dynamic[6]);
    for (uint32_t i = 0; i < bytes / sizeof *r; i++) {
        uint32_t kind = r[i].info & 255, value = (uint32_t)base;
        if (kind != 35) {
            const struct symbol *s = &symbols[r[i].info >> 8];
            const char *name = base + dynamic[5] + s->name;
            value = s->section ? (uint32_t)base + s->value : 0;
            for (size_t k = 0; k < sizeof SYSTEM / sizeof *SYSTEM && !s->section; k++)
                if (same(SYSTEM[k].name, name))
                    value = (uint32_t)SYSTEM[k].at;
            if ((kind != 33 && kind != 34) || (!value && s->info >> 4 != 2))
                return 0;
        }
        *(uint32_t *)(base + r[i].at) = value + r[i].addend;
    }
    return 1;
}

/* The emulator's timer stands still. Reads of it, "rN+1:N = c31:30", become reads of the emulator's
   own counts, "rN+1:N = c21:20": a clock that moves on, if not a clock of anything. */
static void wind_up(uint32_t *words, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if ((words[i] & 0xffff3fe0) == 0x681e0000)
            words[i] = (words[i] & ~0x001f0000u) | 20u << 16;
}

static int load(const char *file, uint32_t bytes, uint32_t arch)
{
    const struct header *h = (const void *)file;
    if (bytes < sizeof *h || h->machine != 164 || h->type != 3 || (h->flags & 255) > arch)
        return failed(UNABLE_TO_LOAD);
    const struct segment *s = (const void *)(file + h->segments_at);
    uint32_t most = 0;
    for (int i = 0; i < h->segments; i++)
        if (s[i].type == 1 && s[i].address + s[i].bytes > most)
            most = s[i].address + s[i].bytes;
    base = system_map(most + PAGE);
    if (!base || map_executable(base, most + PAGE))
        return failed(UNABLE_TO_LOAD);
    for (int i = 0; i < h->segments; i++) {
        if (s[i].type == 1)
            memcpy(base + s[i].address, file + s[i].at, s[i].file_bytes);
        if (s[i].type == 1 && s[i].flags & 1 && timer)
            wind_up((uint32_t *)(base + s[i].address), s[i].file_bytes / 4);
        if (s[i].type == 2)
            for (const uint32_t *d = (const void *)(file + s[i].at); d[0]; d += 2)
                if (d[0] < 32)
                    dynamic[d[0]] = d[1];
    }
    if (!dynamic[4] || !relocate(dynamic[7], dynamic[8]) || !relocate(dynamic[23], dynamic[2]))
        return failed(UNABLE_TO_LOAD);
    return 0;
}

/* The entry's address, by the hash table's symbol count. */
static void *entry(const char *wanted)
{
    const struct symbol *symbols = (void *)(base + dynamic[6]);
    uint32_t count = ((uint32_t *)(base + dynamic[4]))[1];
    for (uint32_t i = 0; i < count; i++)
        if (symbols[i].section && same(base + dynamic[5] + symbols[i].name, wanted))
            return base + symbols[i].value;
    return NULL;
}

/* Calls. */

union argument {
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
typedef int (*invoke)(uint64_t handle, uint32_t scalars, union argument *arguments);

struct call {
    uint64_t handle;
    uint32_t scalars, padding;
};

static char *heap;
#define HEAP_BYTES (1u << 30)

/* Of the two counts in a wound-up timer keep the instructions, which makes it slow enough. */
static void slow_down(struct lap *laps, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes / sizeof *laps; i++)
        for (int at = 0; at < 2; at++)
            laps[i].ticks[at] >>= 32;
}

static void slow_clocks(uint32_t method, const union argument *out)
{
    if (method == INFO)
        slow_down(&((struct info *)out->buffer.data)->loop, sizeof(struct lap));
    if (method == RUN || method == ECHO)
        slow_down(out[1].buffer.data, out[1].buffer.bytes);
}

static int serve(invoke call_library)
{
    struct call call;
    union argument a[64];
    if (!wire_read(&call, sizeof call))
        return 0;
    int in = call.scalars >> 16 & 255, out = call.scalars >> 8 & 255, ins = call.scalars >> 4 & 15,
        outs = call.scalars & 15, total = in + out + ins;
    if (!wire_read(a, sizeof *a * (size_t)total))
        return 0;
    char *next = heap;
    for (int i = 0; i < in + out; i++) {
        a[i].buffer.data = a[i].buffer.bytes ? next : NULL;
        if (i < in && !wire_read(next, a[i].buffer.bytes))
            return 0;
        if (i >= in)
            memset(next, 0, a[i].buffer.bytes);
        next += (a[i].buffer.bytes + 127) & ~127u;
    }
    int32_t result = call_library(call.handle, call.scalars, a);
    if (timer && !result)
        slow_clocks(call.scalars >> 24 & 31, a + in);
    int heard = wire_write(&result, 4);
    for (int i = in; i < in + out; i++)
        heard = heard && wire_write(a[i].buffer.data, a[i].buffer.bytes);
    return heard && wire_write(a + total, 8 * (size_t)outs);
}

int main(void)
{
    static const char SYMBOL[] = "mandheling_skel_handle_invoke";
    uint32_t head[3];
    if (!wire_read(head, sizeof head))
        return 1;
    timer = head[2];
    char *file = system_map(head[1]);
    heap = system_map(HEAP_BYTES);
    if (!file || !heap || !wire_read(file, head[1]))
        return 1;
    int32_t result = load(file, head[1], head[0]);
    invoke call_library = result ? NULL : (invoke)entry(SYMBOL);
    if (!result && !call_library)
        result = failed(NO_SYMBOL);
    if (!wire_write(&result, sizeof result) || result)
        return 1;
    while (serve(call_library))
        ;
    return 0;
}
