#include "team.h"

#include "counters.h"
#include "system.h"

#define STACK_BYTES (1 << 18)

static char *stacks; /* of all helpers, mapped when first needed */

struct share {
    team_work work;
    void *context;
    int first, last, thread;
    struct counts spent;
};

static void help(void *argument)
{
    struct share *share = argument;
    struct counts start = read_counts();
    share->work(share->context, share->first, share->last, share->thread);
    struct counts end = read_counts();
    share->spent.packets = end.packets - start.packets;
    share->spent.instructions = end.instructions - start.instructions;
    share->spent.hvx = end.hvx - start.hvx;
}

static struct share share_of(team_work work, void *context, int items, int grain, int t, int count)
{
    int blocks = (items + grain - 1) / grain;
    int first = (int)((int64_t)blocks * t / count) * grain;
    int last = (int)((int64_t)blocks * (t + 1) / count) * grain;
    return (struct share){work, context, first, last < items ? last : items, t, {0, 0, 0}};
}

/* On one thread: what is beyond the longest share would have been done beside it. */
static void run_in_turn(struct team *team, struct share *shares, int count)
{
    uint64_t longest = 0, all = 0;
    for (int t = 0; t < count; t++) {
        help(&shares[t]);
        all += shares[t].spent.packets;
        if (shares[t].spent.packets > longest)
            longest = shares[t].spent.packets;
    }
    team->busiest += longest - all;
}

static void run_threads(struct team *team, struct share *shares, int count)
{
    struct thread helpers[MAX_THREADS];
    int started[MAX_THREADS] = {0};
    if (!stacks)
        stacks = system_map((size_t)MAX_THREADS * STACK_BYTES);
    for (int t = 1; t < count; t++)
        started[t] = stacks
                     && thread_start(&helpers[t], stacks + (size_t)t * STACK_BYTES, STACK_BYTES,
                                     help, &shares[t]);
    help(&shares[0]);
    uint64_t own = shares[0].spent.packets, longest = 0;
    for (int t = 1; t < count; t++) {
        if (!started[t]) { /* no thread to be had: its share is done here, and counted here */
            help(&shares[t]);
            own += shares[t].spent.packets;
            continue;
        }
        thread_join(&helpers[t]);
        team->packets += shares[t].spent.packets;
        team->instructions += shares[t].spent.instructions;
        team->hvx += shares[t].spent.hvx;
        if (shares[t].spent.packets > longest)
            longest = shares[t].spent.packets;
    }
    if (longest > own) /* the caller's own share is counted by the caller */
        team->busiest += longest - own;
}

void team_run(struct team *team, team_work work, void *context, int items, int grain)
{
    int blocks = (items + grain - 1) / grain;
    int count = team->threads < blocks ? team->threads : blocks;
    if (count <= 1) {
        work(context, 0, items, 0);
        return;
    }
    struct share shares[MAX_THREADS];
    for (int t = 0; t < count; t++)
        shares[t] = share_of(work, context, items, grain, t, count);
    if (team->in_turn)
        run_in_turn(team, shares, count);
    else
        run_threads(team, shares, count);
}
