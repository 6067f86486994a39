/* A map with its border: zeros around it and behind its channels, so that every window is a few
   runs of bytes in one piece. */
#ifndef MANDHELING_BORDER_H
#define MANDHELING_BORDER_H

#include "layer.h"
#include "product.h"

struct map {
    /* The source: n maps of height x width, whose first place is at (top, left). */
    int n, height, width, top, left;
    /* The bordered map, and the windows over it. */
    int rows_h, rows_w, channels, out_h, out_w, stride, dilation, k_h, k_w;
    /* Filled in by map_open and map_fill. */
    int8_t *data;
    int rows;       /* windows: n * out_h * out_w */
    const int8_t **starts; /* of each window, in data */
    int32_t *sums;         /* 128 times the sum of each window */
};

struct map map_forward(const struct layer *l, int channels);

/* Memory, and where the windows start. */
int map_open(struct job *job, struct map *m);

/* Copy `width` channels from `first` on of a map with `all` channels; sum its windows. */
int map_fill(struct job *job, struct map *m, const int8_t *source, int all, int first, int width);

/* The product of all windows with packed columns; the sink's output starts at its channels. */
int map_product(struct job *job, const struct map *m, const HVX_Vector *panels, size_t panel,
                int columns, struct sink *sink);

#endif
