#include "rounding.h"

struct store store_of(int rule, int shift, int low, int high)
{
    return (struct store){shift <= 0 ? LEFT : rule, shift, low, high};
}

void tally_finish(const struct tally *t, struct total *total)
{
    const int32_t *most = (const int32_t *)&t->most, *least = (const int32_t *)&t->least;
    const int32_t *saturated = (const int32_t *)&t->saturated, *lost = (const int32_t *)&t->lost;
    for (int i = 0; i < WORDS; i++) {
        int64_t high = most[i], low = -(int64_t)least[i];
        int64_t magnitude = high > low ? high : low;
        total->amax = magnitude > total->amax ? magnitude : total->amax;
        total->saturated += saturated[i];
        total->lost += lost[i];
    }
}
