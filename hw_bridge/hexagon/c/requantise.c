/* INT32 to INT8 apart from a product: the scan, the known shift, and both after each other. */
#include "rescale.h"
#include "system.h"

struct pass {
    const int32_t *from;
    int8_t *to;
    struct store store;
    struct total totals[MAX_THREADS];
};

static void scan_block(void *context, int first, int last, int thread)
{
    struct pass *p = context;
    struct tally tally;
    tally_start(&tally);
    int i = first;
    for (; i + WORDS <= last; i += WORDS)
        tally_range(&tally, load_any(p->from + i));
    if (i < last)
        tally_range(&tally, keep_bytes(load_any(p->from + i), (last - i) * 4));
    tally_finish(&tally, &p->totals[thread]);
}

INLINE void shift_by(struct pass *p, int first, int last, int thread, int rule)
{
    struct rounder r = rounder_of(&p->store);
    struct tally tally;
    tally_start(&tally);
    for (int i = first; i < last; i += VLEN) {
        HVX_Vector x[4];
        int left = last - i < VLEN ? last - i : VLEN;
#pragma unroll
        for (int k = 0; k < 4; k++)
            x[k] = load_any(p->from + i + k * WORDS);
        if (left < VLEN) /* values behind the end are 0: they count for nothing */
#pragma unroll
            for (int k = 0; k < 4; k++) {
                int words = left - k * WORDS;
                x[k] = words <= 0 ? Q6_V_vzero() : keep_bytes(x[k], words < WORDS ? words * 4 : VLEN);
            }
#pragma unroll
        for (int k = 0; k < 4; k++)
            x[k] = store_words(x[k], rule, &r, &tally);
        store_any(p->to + i, narrow(x[0], x[1], x[2], x[3]), left);
    }
    tally_finish(&tally, &p->totals[thread]);
}

static void shift_block(void *context, int first, int last, int thread)
{
    struct pass *p = context;
#define SHIFT(rule) shift_by(p, first, last, thread, rule)
    WITH_RULE(p->store.rule, SHIFT)
#undef SHIFT
}

/* The low 8 bits of each value, as NITI casts what needs no shift. */
static void cast_block(void *context, int first, int last, int thread)
{
    struct pass *p = context;
    struct tally tally;
    tally_start(&tally);
    for (int i = first; i < last; i++)
        p->to[i] = (int8_t)p->from[i];
    for (int i = first; i < last; i++)
        p->totals[thread].saturated += p->to[i] != p->from[i];
    scan_block(context, first, last, thread);
}

static struct total run_pass(struct job *job, struct pass *p, team_work work, int count)
{
    memset(p->totals, 0, sizeof p->totals);
    team_run(&job->team, work, p, count, VLEN);
    struct total all = {0, 0, 0};
    for (int t = 0; t < MAX_THREADS; t++) {
        all.amax = p->totals[t].amax > all.amax ? p->totals[t].amax : all.amax;
        all.saturated += p->totals[t].saturated;
        all.lost += p->totals[t].lost;
    }
    return all;
}

int64_t scan_words(struct job *job, const int32_t *from, int count)
{
    struct pass p = {.from = from};
    return run_pass(job, &p, scan_block, count).amax;
}

struct total shift_words(struct job *job, const int32_t *from, int8_t *to, int count,
                         const struct store *store)
{
    struct pass p = {.from = from, .to = to, .store = *store};
    return run_pass(job, &p, shift_block, count);
}

struct total cast_words(struct job *job, const int32_t *from, int8_t *to, int count)
{
    struct pass p = {.from = from, .to = to};
    return run_pass(job, &p, cast_block, count);
}

int rule_read(struct job *job, int at, struct rescale_rule *rule)
{
    if (!job_check(job, at, 0, PSTO, "rule") || !job_check(job, at + 1, 0, 7, "bits")
        || !job_check(job, at + 2, -128, -1, "low") || !job_check(job, at + 3, 1, 127, "high")
        || !job_check(job, at + 4, 0, SCALE_UP, "small")
        || !job_check(job, at + 5, 1, 31, "one_becomes")
        || !job_check(job, at + 6, 0, 1, "drop_unit"))
        return 0;
    const int64_t *p = job->params + at;
    *rule = (struct rescale_rule){(int)p[0], (int)p[1], (int)p[2], (int)p[3],
                                  (int)p[4], (int)p[5], (int)p[6]};
    return 1;
}

int rule_shift(const struct rescale_rule *rule, int64_t amax)
{
    int width = amax > 1 ? 64 - __builtin_clzll((uint64_t)amax - 1) : 0;
    int needed = width - rule->bits;
    if (amax <= 1 && rule->drop_unit)
        return DROPPED;
    if (amax == 0)
        return 0;
    if (needed == 1)
        return rule->one_becomes;
    return rule->small == SCALE_UP || needed > 0 ? needed : 0;
}

int run_amax(struct job *job)
{
    if (!job_expect(job, 0, INT32, job->in[0].elements ? job->in[0].elements : 1, "acc"))
        return 0;
    job_value(job, scan_words(job, job->in[0].data, (int)job->in[0].elements));
    return 1;
}

/* Parameters: as store_read. */
int run_requantise(struct job *job)
{
    int bytes, count = (int)job->in[0].elements;
    struct store store;
    if (!store_read(job, 0, &bytes, &store)
        || !job_expect(job, 0, INT32, count ? count : 1, "acc"))
        return 0;
    int8_t *out = job_output(job, INT8, count);
    if (!out)
        return 0;
    struct total total = shift_words(job, job->in[0].data, out, count, &store);
    job_value(job, total.amax);
    job_value(job, total.saturated);
    job_value(job, total.lost);
    return 1;
}

/* Dynamic rescaling: two passes over the accumulators, by a profile's rule. */
int run_rescale(struct job *job)
{
    int count = (int)job->in[0].elements;
    struct rescale_rule rule;
    if (!rule_read(job, 0, &rule) || !job_expect(job, 0, INT32, count ? count : 1, "acc"))
        return 0;
    int8_t *out = job_output(job, INT8, count);
    if (!out)
        return 0;
    int shift = rule_shift(&rule, scan_words(job, job->in[0].data, count));
    struct store store = store_of(rule.rounding, shift, rule.low, rule.high);
    struct total total = rule.small == CAST && shift == 0
                             ? cast_words(job, job->in[0].data, out, count)
                             : shift_words(job, job->in[0].data, out, count, &store);
    job_value(job, shift);
    job_value(job, total.amax);
    job_value(job, total.saturated);
    job_value(job, total.lost);
    return 1;
}
