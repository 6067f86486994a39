/* SGD with momentum on wide integer weights (wide_update of kernels/int8/update.py). Its products
   are of 64 bits, for which HVX has no instruction: this runs on the scalar units. */
#include "rescale.h"

enum { LEFT_SHIFT, RIGHT_SHIFT, RATE, MOMENTUM, DECAY };

#define VELOCITY_BITS 2
#define LEFT_MOST 40
#define INT32_LOW (-2147483647LL - 1)
#define INT32_HIGH 2147483647LL

struct step {
    int32_t *master, *velocity;
    const void *gradient;
    uint32_t dtype;
    const int64_t *plan;
    int64_t amax[MAX_THREADS], saturated[MAX_THREADS];
};

static int64_t cut(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

/* x / 2^shift to the nearest, ties toward +infinity. */
static int64_t nearest(int64_t x, int shift) { return (x + (1LL << (shift - 1))) >> shift; }

static int64_t gradient_at(const struct step *s, int i)
{
    if (s->dtype == INT8)
        return ((const int8_t *)s->gradient)[i];
    return s->dtype == INT32 ? ((const int32_t *)s->gradient)[i] : ((const int64_t *)s->gradient)[i];
}

static void step_block(void *context, int first, int last, int thread)
{
    struct step *s = context;
    const int64_t *plan = s->plan;
    int64_t half = (1LL << plan[RIGHT_SHIFT]) >> 1, most = 0, saturated = 0;
    int64_t enough = 1LL << (LEFT_MOST - plan[LEFT_SHIFT]);
    for (int i = first; i < last; i++) {
        int64_t w = s->master[i], g = cut(gradient_at(s, i), -enough, enough);
        int64_t pull = nearest(w * plan[DECAY], 32 - VELOCITY_BITS);
        int64_t kept = nearest(s->velocity[i] * plan[MOMENTUM], 16);
        int64_t moved = (g * (1LL << plan[LEFT_SHIFT]) + half) >> plan[RIGHT_SHIFT];
        int64_t wanted = kept + moved + pull, v = cut(wanted, INT32_LOW, INT32_HIGH);
        int64_t next = w - nearest(v * plan[RATE], 24 + VELOCITY_BITS);
        int64_t inside = cut(next, INT32_LOW + 1, INT32_HIGH);
        s->velocity[i] = (int32_t)v;
        s->master[i] = (int32_t)inside;
        saturated += (wanted != v) + (next != inside);
        most = inside > most ? inside : -inside > most ? -inside : most;
    }
    s->amax[thread] = most;
    s->saturated[thread] = saturated;
}

/* Parameters: left and right shift of the gradient, rate in 2^-24, momentum in 2^-16, decay in
   2^-32. Gives master, velocity, the INT8 weights; the shift to them, and how many saturated. */
int run_wide_update(struct job *job)
{
    int64_t count = job->in[0].elements ? job->in[0].elements : 1;
    struct step s = {job->in[0].data, job->in[1].data, job->in[2].data, job->in[2].dtype,
                     job->params, {0}, {0}};
    if (!job_check(job, LEFT_SHIFT, 0, LEFT_MOST, "left")
        || !job_check(job, RIGHT_SHIFT, 0, 62, "right")
        || !job_check(job, RATE, 0, 1 << 24, "rate_q24")
        || !job_check(job, MOMENTUM, 0, 1 << 16, "momentum_q16")
        || !job_check(job, DECAY, 0, 1 << 24, "decay_q32")
        || !job_expect(job, 0, INT32, count, "master")
        || !job_expect(job, 1, INT32, count, "velocity")
        || !job_expect(job, 2, s.dtype, count, "gradient"))
        return 0;
    team_run(&job->team, step_block, &s, (int)count, VLEN);
    int64_t amax = 0, saturated = 0;
    for (int t = 0; t < MAX_THREADS; t++) {
        amax = s.amax[t] > amax ? s.amax[t] : amax;
        saturated += s.saturated[t];
    }
    struct rescale_rule rule = {HALF_AWAY, 7, -127, 127, CLIP, 1, 0};
    int shift = rule_shift(&rule, amax);
    struct store store = store_of(HALF_AWAY, shift, -127, 127);
    job_return(job, 0);
    job_return(job, 1);
    int8_t *working = job_output(job, INT8, count);
    if (!working)
        return 0;
    shift_words(job, s.master, working, (int)count, &store);
    job_value(job, shift);
    job_value(job, saturated);
    return 1;
}
