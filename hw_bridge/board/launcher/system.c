#include "system.h"

/* Numbers of asm-generic/unistd.h. */
enum {
    DUP = 23,
    DUP3 = 24,
    OPENAT = 56,
    CLOSE_FILE = 57,
    READ = 63,
    WRITE = 64,
    NANOSLEEP = 101,
    SETITIMER = 103,
    CLOCK_GETTIME = 113,
    SCHED_SETAFFINITY = 122,
    MUNMAP = 215,
    MMAP = 222,
};

#define INTERRUPTED (-4)
#define CLOCK_MONOTONIC_RAW 4
#define HERE (-100)
#define WRITE_ONLY 1

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    register long x8 __asm__("x8") = number;
    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5), "r"(x8)
                     : "memory");
    return x0;
}

int read_all(void *to, size_t bytes)
{
    for (char *at = to; bytes;) {
        long got = call(READ, 0, (long)at, (long)bytes, 0, 0, 0);
        if (got == INTERRUPTED)
            continue;
        if (got <= 0)
            return 0;
        at += got;
        bytes -= (size_t)got;
    }
    return 1;
}

static long answers = 1; /* where they are written */

void keep_stdout(void)
{
    answers = call(DUP, 1, 0, 0, 0, 0, 0);
    call(DUP3, 2, 1, 0, 0, 0, 0);
}

int write_all(const void *from, size_t bytes)
{
    for (const char *at = from; bytes;) {
        long put = call(WRITE, answers, (long)at, (long)bytes, 0, 0, 0);
        if (put == INTERRUPTED)
            continue;
        if (put <= 0)
            return 0;
        at += put;
        bytes -= (size_t)put;
    }
    return 1;
}

int64_t now_ns(void)
{
    int64_t time[2];
    call(CLOCK_GETTIME, CLOCK_MONOTONIC_RAW, (long)time, 0, 0, 0, 0);
    return time[0] * 1000000000 + time[1];
}

void sleep_us(int64_t us)
{
    int64_t time[2] = {us / 1000000, us % 1000000 * 1000};
    call(NANOSLEEP, (long)time, 0, 0, 0, 0, 0);
}

void watch(int64_t seconds)
{
    int64_t timer[4] = {0, 0, seconds, 0};
    call(SETITIMER, 0, (long)timer, 0, 0, 0, 0);
}

int pin(int cpu)
{
    uint64_t set[16] = {0};
    set[cpu / 64] = 1ULL << cpu % 64;
    return (int)call(SCHED_SETAFFINITY, 0, sizeof set, (long)set, 0, 0, 0);
}

static long awake = -1; /* the file that keeps the CPUs awake while it is open */

void let_sleep(void)
{
    if (awake >= 0)
        call(CLOSE_FILE, awake, 0, 0, 0, 0, 0);
    awake = -1;
}

int stay_awake(void)
{
    int32_t none = 0; /* us of latency that we stand */
    if (awake >= 0)
        return 0;
    awake = call(OPENAT, HERE, (long)"/dev/cpu_dma_latency", WRITE_ONLY, 0, 0, 0);
    if (awake < 0)
        return (int)awake;
    long put = call(WRITE, awake, (long)&none, sizeof none, 0, 0, 0);
    if (put < 0)
        let_sleep();
    return put < 0 ? (int)put : 0;
}

void *map_memory(size_t bytes)
{
    long at = call(MMAP, 0, (long)bytes, 3, 0x22, -1, 0);
    return at < 0 && at > -4096 ? NULL : (void *)at;
}

void unmap_memory(void *at, size_t bytes) { call(MUNMAP, (long)at, (long)bytes, 0, 0, 0, 0); }

size_t text_length(const char *text)
{
    size_t n = 0;
    while (text[n])
        n++;
    return n;
}
