/* INT32 accumulators to INT8: shift, round, clip, and count what that cost.

   The rules are those of kernels/rounding.py, whose names they have. All but psto are a floor, and
   one more where the dropped bits exceed a limit; psto compares the dropped bits of the magnitude
   with each other. Nothing here adds to a value before it is shifted, so nothing overflows. */
#ifndef MANDHELING_ROUNDING_H
#define MANDHELING_ROUNDING_H

#include "hvx.h"

enum rule { TRUNC, HALF_AWAY, HALF_UP, HALF_EVEN, PSTO, LEFT, RULES };

/* How accumulators are stored as int8. Made by store_of. */
struct store {
    int rule; /* LEFT where the shift is 0 or negative */
    int shift;
    int low, high; /* the clip */
};

/* What a kernel noticed, as vectors while it runs. */
struct tally {
    HVX_Vector most, least, saturated, lost;
};

INLINE void tally_start(struct tally *t)
{
    t->most = t->least = t->saturated = t->lost = Q6_V_vzero();
}

INLINE void tally_range(struct tally *t, HVX_Vector x)
{
    t->most = Q6_Vw_vmax_VwVw(t->most, x);
    t->least = Q6_Vw_vmin_VwVw(t->least, x);
}

/* Results of all lanes and threads. */
struct total {
    int64_t amax, saturated, lost;
};

/* Add one thread's tally to a total. */
void tally_finish(const struct tally *t, struct total *total);

struct store store_of(int rule, int shift, int low, int high);

/* Constants of one rule and shift, in registers. */
struct rounder {
    HVX_Vector dropped, limit, low, high, one, least, most;
    int shift, cut, odd;
};

INLINE struct rounder rounder_of(const struct store *s)
{
    int half = s->rule == LEFT ? 0 : 1 << (s->shift - 1), psto_bits = s->shift / 2;
    struct rounder r;
    r.shift = s->rule == LEFT ? (-s->shift < 8 ? -s->shift : 8) : s->shift;
    r.dropped = Q6_V_vsplat_R(s->rule == LEFT ? 0 : (int)(((uint32_t)half << 1) - 1));
    r.limit = Q6_V_vsplat_R(s->rule == HALF_EVEN ? half : half - 1);
    if (s->rule == PSTO)
        r.limit = Q6_V_vsplat_R((1 << psto_bits) - 1);
    r.low = Q6_V_vsplat_R(s->low);
    r.high = Q6_V_vsplat_R(s->high);
    r.one = Q6_V_vsplat_R(1);
    r.least = Q6_V_vsplat_R(-1024); /* stays outside every clip, whatever the left shift */
    r.most = Q6_V_vsplat_R(1024);
    r.cut = psto_bits;
    r.odd = s->shift & 1;
    return r;
}

INLINE HVX_Vector psto_words(HVX_Vector x, const struct rounder *r)
{
    HVX_Vector magnitude = Q6_Vw_vabs_Vw(x); /* 2^31 for -2^31, read as unsigned from here on */
    HVX_Vector rest = Q6_V_vand_VV(magnitude, r->dropped);
    HVX_Vector upper = Q6_Vuw_vlsr_VuwR(rest, r->cut);
    HVX_Vector lower = Q6_Vw_vasl_VwR(Q6_V_vand_VV(rest, r->limit), r->odd);
    HVX_Vector kept = Q6_Vuw_vlsr_VuwR(magnitude, r->shift);
    kept = Q6_Vw_condacc_QVwVw(Q6_Q_vcmp_gt_VuwVuw(upper, lower), kept, r->one);
    HVX_VectorPred negative = Q6_Q_vcmp_gt_VwVw(Q6_V_vzero(), x);
    return Q6_V_vmux_QVV(negative, Q6_Vw_vsub_VwVw(Q6_V_vzero(), kept), kept);
}

/* Round by a rule known when this is compiled; not clipped, but for left shifts of what every clip
   changes anyway. */
INLINE HVX_Vector round_words(HVX_Vector x, int rule, const struct rounder *r)
{
    if (rule == LEFT) {
        HVX_Vector near = Q6_Vw_vmin_VwVw(Q6_Vw_vmax_VwVw(x, r->least), r->most);
        return Q6_Vw_vasl_VwR(near, r->shift);
    }
    if (rule == PSTO)
        return psto_words(x, r);
    HVX_Vector floor = Q6_Vw_vasr_VwR(x, r->shift);
    HVX_Vector rest = Q6_V_vand_VV(x, r->dropped);
    HVX_VectorPred up;
    if (rule == HALF_UP) {
        up = Q6_Q_vcmp_gt_VwVw(rest, r->limit);
    } else if (rule == HALF_EVEN) { /* unsigned: at a shift of 31 the sum may be 2^31 */
        HVX_Vector odd = Q6_V_vand_VV(floor, r->one);
        up = Q6_Q_vcmp_gt_VuwVuw(Q6_Vw_vadd_VwVw(rest, odd), r->limit);
    } else {
        HVX_Vector sign = Q6_Vw_vasr_VwR(x, 31);
        if (rule == HALF_AWAY) /* ties of negative values stay at the floor */
            up = Q6_Q_vcmp_gt_VwVw(Q6_Vw_vadd_VwVw(rest, sign), r->limit);
        else
            up = Q6_Q_vcmp_gt_VwVw(Q6_V_vand_VV(rest, sign), Q6_V_vzero());
    }
    return Q6_Vw_condacc_QVwVw(up, floor, r->one);
}

/* Round and clip, and tally. */
INLINE HVX_Vector store_words(HVX_Vector x, int rule, const struct rounder *r, struct tally *t)
{
    HVX_Vector value = round_words(x, rule, r);
    HVX_Vector clipped = Q6_Vw_vmin_VwVw(Q6_Vw_vmax_VwVw(value, r->low), r->high);
    HVX_Vector zero = Q6_V_vzero();
    HVX_VectorPred kept = Q6_Q_vcmp_eq_VwVw(value, clipped);
    HVX_VectorPred gone = Q6_Q_and_QQn(Q6_Q_vcmp_eq_VwVw(value, zero), Q6_Q_vcmp_eq_VwVw(x, zero));
    tally_range(t, x);
    t->saturated = Q6_Vw_condacc_QnVwVw(kept, t->saturated, r->one);
    t->lost = Q6_Vw_condacc_QVwVw(gone, t->lost, r->one);
    return clipped;
}

/* A call with the rule as a constant: one loop is compiled for each. */
#define WITH_RULE(rule, call)                                                                      \
    switch (rule) {                                                                                \
    case TRUNC: call(TRUNC); break;                                                                \
    case HALF_AWAY: call(HALF_AWAY); break;                                                        \
    case HALF_UP: call(HALF_UP); break;                                                            \
    case HALF_EVEN: call(HALF_EVEN); break;                                                        \
    case PSTO: call(PSTO); break;                                                                  \
    default: call(LEFT); break;                                                                    \
    }

#endif
