/* Max-pooling, channels last: 128 channels at a time. The error goes to the first maximum of its
   window in row-major order, which is found again in the saved input. */
#include "rescale.h"
#include "system.h"

struct pool {
    int n, h, w, c, k_h, k_w, stride, pad_h, pad_w, h_out, w_out;
    const int8_t *x, *e;
    int8_t *y;
    void *dx;
    int overlaps; /* windows share elements: dx is int32 */
};

enum { POOL_PARAMS = 11 };

static int pool_read(struct job *job, struct pool *p)
{
    int *fields[POOL_PARAMS] = {&p->n,      &p->h,     &p->w,     &p->c,     &p->k_h,  &p->k_w,
                                &p->stride, &p->pad_h, &p->pad_w, &p->h_out, &p->w_out};
    memset(p, 0, sizeof *p);
    for (int i = 0; i < POOL_PARAMS; i++) {
        if (!job_check(job, i, i == 7 || i == 8 ? 0 : 1, 1 << 15, "a size of the pooling"))
            return 0;
        *fields[i] = (int)job->params[i];
    }
    if (2 * p->pad_h > p->k_h || 2 * p->pad_w > p->k_w
        || (p->h_out - 1) * p->stride >= p->h + p->pad_h
        || (p->w_out - 1) * p->stride >= p->w + p->pad_w)
        return job_fail(job, BAD_PARAMS, "a window holds no element");
    p->overlaps = p->stride < p->k_h || p->stride < p->k_w;
    int64_t size = (int64_t)p->n * p->h * p->w * p->c;
    p->x = job->in[0].data;
    if (size > MAX_ELEMENTS)
        return job_fail(job, BAD_PARAMS, "the map has more than 2^28 elements");
    return job_expect(job, 0, INT8, size, "x");
}

/* Part of a window that lies inside the map. */
struct window {
    int top, bottom, left, right;
};

static struct window window_of(const struct pool *p, int row, int column)
{
    int top = row * p->stride - p->pad_h, left = column * p->stride - p->pad_w;
    struct window w = {top, top + p->k_h, left, left + p->k_w};
    w.top = w.top < 0 ? 0 : w.top;
    w.left = w.left < 0 ? 0 : w.left;
    w.bottom = w.bottom > p->h ? p->h : w.bottom;
    w.right = w.right > p->w ? p->w : w.right;
    return w;
}

INLINE size_t place(const struct pool *p, int n, int i, int j)
{
    return ((size_t)(n * p->h + i) * p->w + j) * p->c;
}

static HVX_Vector maximum(const struct pool *p, int n, const struct window *w, int channel)
{
    HVX_Vector most = Q6_V_vsplat_R(0x80808080);
    for (int i = w->top; i < w->bottom; i++)
        for (int j = w->left; j < w->right; j++)
            most = Q6_Vb_vmax_VbVb(most, load_any(p->x + place(p, n, i, j) + channel));
    return most;
}

static void pool_rows(void *context, int first, int last, int thread)
{
    const struct pool *p = context;
    (void)thread;
    int n = first / p->h_out, i = first - n * p->h_out;
    int8_t *to = p->y + (size_t)first * p->w_out * p->c;
    for (int row = first; row < last; row++, i++) {
        if (i == p->h_out) {
            i = 0;
            n++;
        }
        for (int column = 0; column < p->w_out; column++, to += p->c) {
            struct window w = window_of(p, i, column);
            for (int channel = 0; channel < p->c; channel += VLEN)
                store_any(to + channel, maximum(p, n, &w, channel),
                          (unsigned)least(p->c - channel, VLEN));
        }
    }
}

/* Add `bytes` int8 to an int32 or int8 destination. */
static void add_errors(const struct pool *p, size_t at, HVX_Vector errors, int bytes)
{
    if (!p->overlaps) {
        int8_t *to = (int8_t *)p->dx + at;
        store_any(to, Q6_Vb_vadd_VbVb(load_any(to), errors), bytes);
        return;
    }
    HVX_Vector words[4];
    int32_t *to = (int32_t *)p->dx + at;
    widen(errors, words);
    for (int k = 0; k < 4 && k * WORDS < bytes; k++, to += WORDS)
        store_any(to, Q6_Vw_vadd_VwVw(load_any(to), words[k]),
                  (unsigned)least(bytes - k * WORDS, WORDS) * 4);
}

static void route(const struct pool *p, int n, const struct window *w, const int8_t *error,
                  int channel)
{
    int bytes = (int)least(p->c - channel, VLEN);
    HVX_Vector most = maximum(p, n, w, channel), left = load_any(error + channel);
    HVX_VectorPred wanted = Q6_Q_vsetq2_R(VLEN);
    for (int i = w->top; i < w->bottom; i++)
        for (int j = w->left; j < w->right; j++) {
            size_t at = place(p, n, i, j) + channel;
            HVX_VectorPred equal = Q6_Q_vcmp_eq_VbVb(load_any(p->x + at), most);
            HVX_VectorPred hit = Q6_Q_and_QQ(wanted, equal);
            wanted = Q6_Q_and_QQn(wanted, equal);
            add_errors(p, at, Q6_V_vmux_QVV(hit, left, Q6_V_vzero()), bytes);
        }
}

/* Whole samples: windows that share elements belong to one thread. */
static void route_samples(void *context, int first, int last, int thread)
{
    const struct pool *p = context;
    (void)thread;
    for (int n = first; n < last; n++)
        for (int row = 0; row < p->h_out; row++)
            for (int column = 0; column < p->w_out; column++) {
                struct window w = window_of(p, row, column);
                const int8_t *error = p->e + ((size_t)(n * p->h_out + row) * p->w_out + column) * p->c;
                for (int channel = 0; channel < p->c; channel += VLEN)
                    route(p, n, &w, error, channel);
            }
}

int run_max_pool_forward(struct job *job)
{
    struct pool p;
    if (!pool_read(job, &p))
        return 0;
    p.y = job_output(job, INT8, (uint64_t)p.n * p.h_out * p.w_out * p.c);
    if (!p.y)
        return 0;
    team_run(&job->team, pool_rows, &p, p.n * p.h_out, 1);
    return 1;
}

int run_max_pool_input_grad(struct job *job)
{
    struct pool p;
    if (!pool_read(job, &p)
        || !job_expect(job, 1, INT8, (int64_t)p.n * p.h_out * p.w_out * p.c, "e"))
        return 0;
    size_t size = (size_t)p.n * p.h * p.w * p.c;
    int dtype = p.overlaps ? INT32 : INT8;
    p.e = job->in[1].data;
    p.dx = job_output(job, dtype, size);
    if (!p.dx)
        return 0;
    memset(p.dx, 0, size * dtype);
    team_run(&job->team, route_samples, &p, p.n, 1);
    return 1;
}
