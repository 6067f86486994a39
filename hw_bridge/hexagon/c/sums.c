/* The sum of INT8 tensors at different exponents (AlignedSum of kernels/int8/sums.py): each term is
   shifted left to the common exponent, or rounded to it, and the INT32 sum is scanned, stored, or
   both. A shift known beforehand needs one pass, and no INT32 in memory. */
#include "rescale.h"
#include "system.h"

#define MAX_TERMS 64
#define MAX_LEFT 23

struct sum {
    int terms, count, rule;
    const int8_t *from[MAX_TERMS];
    int left[MAX_TERMS]; /* negative: to the right, rounded */
    struct store store;
    int8_t *to;     /* NULL: scan only */
    int32_t *words; /* or NULL */
    struct total totals[MAX_THREADS];
};

INLINE HVX_Vector round_term(HVX_Vector x, int rule, int right)
{
    struct store store = {rule, right, -128, 127};
    struct rounder r = rounder_of(&store);
    HVX_Vector out = x;
#define ROUND(name) out = round_words(x, name, &r)
    WITH_RULE(rule, ROUND)
#undef ROUND
    return out;
}

static void add_terms(const struct sum *s, int at, HVX_Vector total[4])
{
    for (int k = 0; k < 4; k++)
        total[k] = Q6_V_vzero();
    for (int t = 0; t < s->terms; t++) {
        HVX_Vector words[4];
        widen(load_any(s->from[t] + at), words);
        for (int k = 0; k < 4; k++) {
            HVX_Vector term = s->left[t] < 0 ? round_term(words[k], s->rule, -s->left[t])
                                             : Q6_Vw_vasl_VwR(words[k], s->left[t]);
            total[k] = Q6_Vw_vadd_VwVw(total[k], term);
        }
    }
}

INLINE void sum_by(struct sum *s, int first, int last, int thread, int rule)
{
    struct rounder r = rounder_of(&s->store);
    struct tally tally;
    tally_start(&tally);
    for (int i = first; i < last; i += VLEN) {
        HVX_Vector total[4];
        int left = last - i < VLEN ? last - i : VLEN;
        add_terms(s, i, total);
        for (int k = 0; k < 4; k++) { /* values behind the end count for nothing */
            int words = left - k * WORDS;
            if (words < WORDS)
                total[k] = words <= 0 ? Q6_V_vzero() : keep_bytes(total[k], words * 4);
            if (s->words && words > 0)
                store_any(s->words + i + k * WORDS, total[k], words < WORDS ? words * 4 : VLEN);
            if (!s->to)
                tally_range(&tally, total[k]);
            else
                total[k] = store_words(total[k], rule, &r, &tally);
        }
        if (s->to)
            store_any(s->to + i, narrow(total[0], total[1], total[2], total[3]), left);
    }
    tally_finish(&tally, &s->totals[thread]);
}

static void sum_block(void *context, int first, int last, int thread)
{
    struct sum *s = context;
#define SUM(rule) sum_by(s, first, last, thread, rule)
    WITH_RULE(s->store.rule, SUM)
#undef SUM
}

static struct total run_sum(struct job *job, struct sum *s)
{
    memset(s->totals, 0, sizeof s->totals);
    team_run(&job->team, sum_block, s, s->count, VLEN);
    struct total all = {0, 0, 0};
    for (int t = 0; t < MAX_THREADS; t++) {
        all.amax = s->totals[t].amax > all.amax ? s->totals[t].amax : all.amax;
        all.saturated += s->totals[t].saturated;
        all.lost += s->totals[t].lost;
    }
    return all;
}

static int sum_read(struct job *job, struct sum *s)
{
    memset(s, 0, sizeof *s);
    s->terms = job->in_count;
    if (s->terms < 1 || s->terms > MAX_TERMS
        || job->param_count != RULE_PARAMS + 2 + s->terms)
        return job_fail(job, BAD_PARAMS, "%d terms and %d parameters; allowed: 1 .. %d terms, and 9"
                        " parameters more than terms", (int64_t)s->terms,
                        (int64_t)job->param_count, (int64_t)MAX_TERMS);
    s->count = (int)job->in[0].elements;
    for (int t = 0; t < s->terms; t++) {
        if (!job_expect(job, t, INT8, s->count ? s->count : 1, "a term")
            || !job_check(job, RULE_PARAMS + 2 + t, -31, MAX_LEFT, "a term's shift"))
            return 0;
        s->from[t] = job->in[t].data;
        s->left[t] = (int)job->params[RULE_PARAMS + 2 + t];
    }
    return 1;
}

/* Parameters: the rule (7), whether a shift is given, the shift, one left shift per term. */
int run_add(struct job *job)
{
    struct sum s;
    struct rescale_rule rule;
    if (job->param_count < RULE_PARAMS + 2)
        return job_fail(job, BAD_PARAMS, "%d parameters; allowed: 10 or more",
                        (int64_t)job->param_count);
    if (!sum_read(job, &s) || !rule_read(job, 0, &rule)
        || !job_check(job, RULE_PARAMS, 0, 1, "known")
        || !job_check(job, RULE_PARAMS + 1, -31, 31, "shift"))
        return 0;
    int shift = (int)job->params[RULE_PARAMS + 1];
    int8_t *out = job_output(job, INT8, s.count);
    s.rule = rule.rounding;
    s.store = store_of(rule.rounding, 0, rule.low, rule.high);
    if (!out)
        return 0;
    if (!job->params[RULE_PARAMS])
        shift = rule_shift(&rule, run_sum(job, &s).amax);
    struct total total;
    if (rule.small == CAST && shift == 0) {
        s.words = job_memory(job, (size_t)s.count * 4);
        if (!s.words)
            return 0;
        run_sum(job, &s);
        total = cast_words(job, s.words, out, s.count);
    } else {
        s.to = out;
        s.store = store_of(rule.rounding, shift, rule.low, rule.high);
        total = run_sum(job, &s);
    }
    job_value(job, shift);
    job_value(job, total.amax);
    job_value(job, total.saturated);
    job_value(job, total.lost);
    return 1;
}
