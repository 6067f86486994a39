/* Several HVX threads share out a range; the integers do not depend on how many. */
#ifndef MANDHELING_TEAM_H
#define MANDHELING_TEAM_H

#include <stdint.h>

#define MAX_THREADS 8

struct team {
    int threads;
    int in_turn; /* all shares on the caller's thread, one after the other: the same counts each time */
    /* What the helpers counted; the caller's own counts come on top. To busiest, too, which may
       wrap around until then. */
    uint64_t packets, instructions, hvx, busiest;
};

typedef void (*team_work)(void *context, int first, int last, int thread);

/* Call work(context, first, last, thread) on blocks of 0 .. items - 1. A block starts at a
   multiple of grain. Each thread gets one block, the caller the first. */
void team_run(struct team *team, team_work work, void *context, int items, int grain);

#endif
