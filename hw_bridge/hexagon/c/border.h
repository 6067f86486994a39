/* A map with its border: zeros around it, between its places where a stride spread them, and
   behind its channels, so that every window is a few runs of bytes in one piece. */
#ifndef MANDHELING_BORDER_H
#define MANDHELING_BORDER_H

#include "layer.h"
#include "product.h"

struct map {
    /* The source: n maps of height x width, each place `spread` apart, the first at (top, left). */
    int n, height, width, spread, top, left;
    /* The bordered map, and the windows over it. */
    int rows_h, rows_w, channels, out_h, out_w, stride, dilation, k_h, k_w;
    /* Filled in by map_open and map_fill. */
    int8_t *data;
    int rows;       /* windows: n * out_h * out_w */
    const int8_t **starts; /* of each window, in data */
    int32_t *sums;         /* 128 times the sum of each window */
};

struct map map_forward(const struct layer *l, int channels);
struct map map_input_grad(const struct layer *l, int channels);

/* Memory, and where the windows start. */
int map_open(struct job *job, struct map *m);

/* Copy `width` channels from `first` on of a map with `all` channels; sum its windows. */
int map_fill(struct job *job, struct map *m, const int8_t *source, int all, int first, int width);

/* The runs of a window: one per row of it where columns touch, else one per tap. Gives how many,
   the gaps behind them, and the steps in each. */
int map_runs(const struct map *m, struct gap *gaps, int *steps);

#endif
