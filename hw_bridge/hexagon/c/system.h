/* All that the runner needs of Linux: no C library, so that a build takes seconds and a binary
   holds nothing but the kernels. System calls as in Linux's asm-generic/unistd.h. */
#ifndef MANDHELING_SYSTEM_H
#define MANDHELING_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

long system_read(int file, void *to, size_t size);
long system_write(int file, const void *from, size_t size);
void system_exit(int code) __attribute__((noreturn));
/* Anonymous memory, zeroed and page-aligned; NULL if there is none. */
void *system_map(size_t size);

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
