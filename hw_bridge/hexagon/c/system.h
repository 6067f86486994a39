/* All that the kernels need of a system: no C library, so that a build takes seconds and a binary
   holds nothing but the kernels. system.c asks Linux, by the numbers of asm-generic/unistd.h, and
   serves the runner; a library for a board brings its own (the first three are the runner's). */
#ifndef MANDHELING_SYSTEM_H
#define MANDHELING_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

long system_read(int file, void *to, size_t size);
long system_write(int file, const void *from, size_t size);
void system_exit(int code) __attribute__((noreturn));
/* Anonymous memory, zeroed and page-aligned; NULL if there is none. */
void *system_map(size_t size);
/* What jobs share out. */
#ifdef MANDHELING_BOARD
size_t system_arena_bytes(void);
#define ARENA_BYTES system_arena_bytes()
#else
#define ARENA_BYTES (3UL << 29) /* address space: pages that no job touched cost nothing */
#endif

struct thread {
    volatile int32_t id; /* 0 once it has ended: the kernel clears it and wakes who waits */
};

/* Start work(context) on a stack of `size` bytes at `stack`; 0 if the system has no more threads. */
int thread_start(struct thread *thread, void *stack, size_t size, void (*work)(void *),
                 void *context);
void thread_join(struct thread *thread);

void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
size_t strlen(const char *text);

#endif
