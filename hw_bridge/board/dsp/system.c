/* The system of a DSP: QuRT's threads, HAP's votes and mappings. The layouts were derived from open
   code and from the code of open test libraries; which ones, the guide to boards lists. */
#include "system.h"

#include "board.h"
#include "remote.h"

#define IMPORT extern __attribute__((weak))

IMPORT void *HAP_mmap(void *at, int bytes, int protection, int flags, int fd, long offset);
IMPORT int HAP_munmap(void *at, int bytes);
IMPORT int HAP_power_set(void *client, void *request);
IMPORT int HAP_power_get(void *client, void *answer);
IMPORT void HAP_power_destroy_client(void *client);
IMPORT int compute_resource_query_VTCM(unsigned app, unsigned *total, void *pages, unsigned *left,
                                       void *left_pages);
IMPORT int qurt_hvx_get_units(void);
IMPORT int qurt_thread_create(unsigned *id, void *attributes, void (*work)(void *), void *context);
IMPORT int qurt_thread_join(unsigned id, int *status);
IMPORT unsigned qurt_thread_get_id(void);
IMPORT int qurt_thread_get_priority(unsigned id);

/* Memory: one mapping for all jobs. Thread stacks are cut from its end, and the rest is the arena. */

#define STACKS_BYTES (1 << 22)
#define READ_WRITE 3
#define MOST_BYTES (1ULL << 30)

static char *mapped;
static size_t mapped_bytes, cut_bytes;

int board_arena(int32_t fd, uint64_t bytes)
{
    if (!HAP_mmap)
        return NO_IMPORT;
    if (mapped || bytes < 2 * STACKS_BYTES || bytes > MOST_BYTES)
        return (int)REFUSED_STATE;
    void *at = HAP_mmap(0, (int)bytes, READ_WRITE, 0, fd, 0);
    if (!at || at == (void *)-1)
        return -1;
    mapped = at;
    mapped_bytes = (size_t)bytes;
    return 0;
}

void board_release(void)
{
    if (HAP_power_destroy_client)
        HAP_power_destroy_client(&mapped);
    if (mapped && HAP_munmap)
        HAP_munmap(mapped, (int)mapped_bytes);
    mapped = NULL;
    mapped_bytes = cut_bytes = 0;
}

size_t system_arena_bytes(void) { return mapped ? mapped_bytes - STACKS_BYTES : 0; }

void *system_map(size_t size)
{
    if (!mapped)
        return NULL;
    if (size == system_arena_bytes())
        return mapped;
    if (size > STACKS_BYTES - cut_bytes)
        return NULL;
    cut_bytes += size;
    return mapped + mapped_bytes - cut_bytes;
}

/* Threads. */

struct attributes { /* of qurt_thread_create: 36 bytes */
    char name[16];
    uint8_t tcb, unused;
    uint16_t priority;
    uint8_t bits, all_ones;
    uint16_t timer;
    uint32_t stack_bytes;
    void *stack;
    uint16_t none, padding;
};
_Static_assert(sizeof(struct attributes) == 36, "the layout that QuRT reads");

int thread_start(struct thread *thread, void *stack, size_t size, void (*work)(void *),
                 void *context)
{
    if (!qurt_thread_create || !qurt_thread_join || !qurt_thread_get_id
        || !qurt_thread_get_priority)
        return 0;
    struct attributes attributes = {.name = "mandheling",
                                    .all_ones = 0xff,
                                    .timer = 0xfffe,
                                    .stack_bytes = (uint32_t)size,
                                    .stack = stack};
    attributes.priority = (uint16_t)qurt_thread_get_priority(qurt_thread_get_id());
    unsigned id;
    if (qurt_thread_create(&id, &attributes, work, context))
        return 0;
    thread->id = (int32_t)id;
    return 1;
}

void thread_join(struct thread *thread)
{
    int status; /* that the thread is gone already is as good as an end */
    qurt_thread_join((unsigned)thread->id, &status);
}

/* Votes and clocks. The request's first byte is its type; what it asks begins at byte 8. */

enum { DCVS_V2 = 7, DCVS_V3 = 12, GET_CLOCK_HZ = 4, VOTE_BYTES = 256 };

static int ask(uint8_t *request, const struct power_request *wanted, int form)
{
    uint8_t corner = (uint8_t)wanted->corner, set = (uint8_t)(wanted->vote != 0);
    memset(request, 0, VOTE_BYTES);
    if (form == 3) {
        request[0] = DCVS_V3;
        request[8] = 1;        /* set whether the system may scale by itself: not while a vote holds */
        request[9] = !set;
        request[36] = request[16] = set; /* bus, core */
        if (set)
            for (int i = 0; i < 3; i++)
                request[20 + i] = request[40 + i] = corner; /* target, least, most */
        request[84] = 1;
        request[85] = set; /* no sleep while the vote holds */
    } else {
        request[0] = DCVS_V2;
        request[8] = !set;
        request[16] = set;
        if (set)
            request[20] = request[21] = request[22] = corner;
    }
    return HAP_power_set(&mapped, request);
}

void board_power(const struct power_request *request, struct power_answer *answer)
{
    uint8_t words[VOTE_BYTES] __attribute__((aligned(8)));
    *answer = (struct power_answer){.status = NO_IMPORT};
    if (HAP_power_set) {
        answer->interface = 3;
        answer->status = ask(words, request, 3);
        if (answer->status) { /* older firmware has the second form only */
            answer->interface = 2;
            answer->status = ask(words, request, 2);
        }
        if (answer->status)
            answer->interface = 0;
    }
    answer->clock_hz = board_clock_hz();
}

uint32_t board_clock_hz(void)
{
    uint8_t words[VOTE_BYTES] __attribute__((aligned(8)));
    uint32_t hz;
    memset(words, 0, sizeof words);
    words[0] = GET_CLOCK_HZ;
    if (!HAP_power_get || HAP_power_get(&mapped, words))
        return 0;
    memcpy(&hz, words + 8, sizeof hz);
    return hz;
}

uint32_t board_hvx_contexts(void)
{
    return qurt_hvx_get_units ? ((uint32_t)qurt_hvx_get_units() >> 8) & 0xff : 0;
}

uint32_t board_vtcm_bytes(void)
{
    uint8_t pages[2][VOTE_BYTES] __attribute__((aligned(8)));
    unsigned total = 0, left = 0;
    if (!compute_resource_query_VTCM
        || compute_resource_query_VTCM(0, &total, pages[0], &left, pages[1]))
        return 0;
    return total;
}
