#include "border.h"
#include "pack.h"

#include "system.h"

struct map map_forward(const struct layer *l, int channels)
{
    return (struct map){
        .n = l->n, .height = l->h, .width = l->w, .top = l->pad_h, .left = l->pad_w,
        .rows_h = l->h + 2 * l->pad_h, .rows_w = l->w + 2 * l->pad_w, .channels = channels,
        .out_h = l->h_out, .out_w = l->w_out, .stride = l->stride, .dilation = l->dilation,
        .k_h = l->k_h, .k_w = l->k_w,
    };
}

int map_open(struct job *job, struct map *m)
{
    size_t places = (size_t)m->n * m->rows_h * m->rows_w;
    m->rows = m->n * m->out_h * m->out_w;
    m->data = job_zeros(job, places * m->channels);
    m->starts = job_memory(job, STARTS(m->rows));
    m->sums = job_memory(job, round_up(m->rows, WORDS) * 4);
    if (!m->data || !m->starts || !m->sums)
        return 0;
    const int8_t **to = m->starts;
    size_t step = (size_t)m->stride * m->channels;
    for (int n = 0; n < m->n; n++)
        for (int i = 0; i < m->out_h; i++) {
            size_t line = (size_t)(n * m->rows_h + i * m->stride) * m->rows_w;
            const int8_t *at = m->data + line * m->channels;
            for (int j = 0; j < m->out_w; j++, at += step)
                *to++ = at;
        }
    fill_starts(m->starts, m->rows);
    return 1;
}

struct fill {
    struct map *map;
    const int8_t *source;
    int all, first, width;
};

/* Rows first .. last - 1 of all source maps. */
static void fill_rows(void *context, int first, int last, int thread)
{
    struct fill *f = context;
    const struct map *m = f->map;
    (void)thread;
    /* Whole lines may bring channels of other groups along: the weights for them are 0. */
    int whole = f->all == m->channels && m->left >= 0 && m->left + m->width <= m->rows_w;
    int n = first / m->height, i = first - n * m->height;
    for (int row = first; row < last; row++, i++) {
        if (i == m->height) {
            i = 0;
            n++;
        }
        int y = m->top + i;
        if (y < 0 || y >= m->rows_h)
            continue;
        int8_t *line = m->data + (size_t)(n * m->rows_h + y) * m->rows_w * m->channels;
        const int8_t *from = f->source + (size_t)row * m->width * f->all + f->first;
        if (whole) {
            copy_bytes(line + m->left * m->channels, from, m->width * m->channels);
            continue;
        }
        for (int j = 0, x = m->left; j < m->width; j++, x++, from += f->all)
            if (x >= 0 && x < m->rows_w)
                copy_bytes(line + x * m->channels, from, f->width);
    }
}

struct places {
    const struct map *map;
    int32_t *sums;
};

static void sum_places(void *context, int first, int last, int thread)
{
    struct places *p = context;
    (void)thread;
    int channels = p->map->channels;
    row_sums(p->map->data + (size_t)first * channels, channels, last - first, channels,
             p->sums + first);
}

/* What each place's channels add up to, then for every place the sum of the window that starts
   there: 32 places at a time, whether a window starts there or not. */
static int sum_windows(struct job *job, struct map *m)
{
    int places = m->n * m->rows_h * m->rows_w;
    size_t reach = (size_t)m->dilation * ((m->k_h - 1) * m->rows_w + m->k_w - 1);
    int32_t *single = job_memory(job, (round_up(places, WORDS) + reach) * 4);
    int32_t *window = job_memory(job, round_up(places, WORDS) * 4);
    if (!single || !window)
        return 0;
    struct places task = {m, single};
    team_run(&job->team, sum_places, &task, places, WORDS);
    for (int place = 0; place < places; place += WORDS) {
        HVX_Vector sum = Q6_V_vzero();
        for (int i = 0; i < m->k_h; i++)
            for (int j = 0; j < m->k_w; j++)
                sum = Q6_Vw_vadd_VwVw(
                    sum, load_any(single + place + m->dilation * (i * m->rows_w + j)));
        *(HVX_Vector *)(window + place) = sum;
    }
    int32_t *to = m->sums;
    for (int n = 0; n < m->n; n++)
        for (int i = 0; i < m->out_h; i++) {
            const int32_t *at = window + (n * m->rows_h + i * m->stride) * m->rows_w;
            for (int j = 0; j < m->out_w; j++, at += m->stride)
                *to++ = *at;
        }
    return 1;
}

int map_fill(struct job *job, struct map *m, const int8_t *source, int all, int first, int width)
{
    struct fill fill = {m, source, all, first, width};
    team_run(&job->team, fill_rows, &fill, m->n * m->height, 1);
    return sum_windows(job, m);
}

/* The runs of a window: one per row of it where columns touch, else one per tap. Gives how many,
   the gaps behind them, and the steps in each. */
static int map_runs(const struct map *m, struct gap *gaps, int *steps)
{
    int joined = m->dilation == 1, length = joined ? m->k_w * m->channels : m->channels;
    int along = joined ? 1 : m->k_w, count = m->k_h * along;
    *steps = length / DEPTH_STEP;
    int next = m->dilation * m->channels - length; /* from the end of a run to its neighbour's */
    int down = (m->rows_w - (along - 1)) * m->dilation * m->channels - length;
    for (int i = 0, j = 1; i < count; i++, j = j == along ? 1 : j + 1)
        gaps[i] = (struct gap){j == along ? down : next, 0};
    return count;
}

int map_product(struct job *job, const struct map *m, const HVX_Vector *panels, size_t panel,
                int columns, struct sink *sink)
{
    struct gap *gaps = job_memory(job, (size_t)m->k_h * m->k_w * sizeof *gaps);
    if (!gaps)
        return 0;
    struct product product = {m->rows, columns, m->starts, panels, panel, gaps, 0, 0};
    product.runs = map_runs(m, gaps, &product.steps);
    sink->rows = m->sums;
    product_run(&product, sink, &job->team);
    return 1;
}
