/* What the launcher needs of Linux, by its system calls: the same file runs on glibc and Android. */
#ifndef MANDHELING_LAUNCHER_SYSTEM_H
#define MANDHELING_LAUNCHER_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

/* Exactly so many bytes from stdin; 0 at its end. */
int read_all(void *to, size_t bytes);
/* Keep stdout for answers: what a library prints goes to stderr from here on. */
void keep_stdout(void);
/* All to what was stdout; 0 where nobody reads. */
int write_all(const void *from, size_t bytes);
/* CLOCK_MONOTONIC_RAW. */
int64_t now_ns(void);
void sleep_us(int64_t us);
/* End this process by SIGALRM, unless called again within so many seconds; the kernel then frees
   the DSP's process. */
void watch(int64_t seconds);
/* Run on one CPU only; 0, or a negative errno. */
int pin(int cpu);
/* Keep the CPUs out of deep sleep, until this process ends or lets them; 0, or a negative errno. */
int stay_awake(void);
void let_sleep(void);
void *map_memory(size_t bytes); /* NULL if there is none */
void unmap_memory(void *at, size_t bytes);

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
size_t text_length(const char *text);

#endif
