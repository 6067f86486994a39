/* What the library asks of the DSP's system. Each import is weak: a firmware that lacks one still
   loads the library, and says what is missing when it is asked for. */
#ifndef MANDHELING_BOARD_H
#define MANDHELING_BOARD_H

#include <stdint.h>

#include "calls.h"

/* Map the memory of a handle as what jobs share out: 0, an error, or NO_IMPORT. Once only. */
int board_arena(int32_t fd, uint64_t bytes);
void board_release(void);
void board_power(const struct power_request *request, struct power_answer *answer);
uint32_t board_clock_hz(void); /* 0 where it is not known */
uint32_t board_hvx_contexts(void);
uint32_t board_vtcm_bytes(void);

#endif
