#include "system.h"

#include "hvx.h"

enum { READ = 63, WRITE = 64, EXIT = 93, EXIT_GROUP = 94, FUTEX = 98, CLONE = 220, MMAP = 222 };

#define FUTEX_WAIT 0
#define PROT_READ_WRITE 3
#define MAP_PRIVATE_ANONYMOUS_NORESERVE (0x02 | 0x20 | 0x4000)
/* What pthread_create asks for: VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID,
   CHILD_CLEARTID. The emulator refuses other sets. */
#define THREAD_FLAGS (0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x80000 | 0x100000 | 0x200000)

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long r0 __asm__("r0") = a;
    register long r1 __asm__("r1") = b;
    register long r2 __asm__("r2") = c;
    register long r3 __asm__("r3") = d;
    register long r4 __asm__("r4") = e;
    register long r5 __asm__("r5") = f;
    register long r6 __asm__("r6") = number;
    __asm__ volatile("trap0(#1)"
                     : "+r"(r0)
                     : "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5), "r"(r6)
                     : "memory");
    return r0;
}

long system_read(int file, void *to, size_t size) { return call(READ, file, (long)to, size, 0, 0, 0); }

long system_write(int file, const void *from, size_t size)
{
    return call(WRITE, file, (long)from, size, 0, 0, 0);
}

void system_exit(int code)
{
    for (;;)
        call(EXIT_GROUP, code, 0, 0, 0, 0, 0);
}

void *system_map(size_t size)
{
    long at = call(MMAP, 0, size, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE, -1, 0);
    return at < 0 && at > -4096 ? NULL : (void *)at;
}

/* What a new thread finds on top of its stack. */
struct entry {
    void (*work)(void *);
    void *context;
};

__attribute__((used, noreturn)) static void thread_main(struct entry *entry)
{
    entry->work(entry->context);
    for (;;)
        call(EXIT, 0, 0, 0, 0, 0, 0);
}

int thread_start(struct thread *thread, void *stack, size_t size, void (*work)(void *),
                 void *context)
{
    struct entry *entry = (struct entry *)((char *)stack + size - VLEN);
    *entry = (struct entry){work, context};
    thread->id = 1; /* until the kernel has written the real one */
    register long r0 __asm__("r0") = THREAD_FLAGS;
    register long r1 __asm__("r1") = (long)entry;
    register long r2 __asm__("r2") = (long)&thread->id;
    register long r3 __asm__("r3") = (long)&thread->id;
    register long r4 __asm__("r4") = 0;
    register long r6 __asm__("r6") = CLONE;
    /* The child wakes up here with r0 = 0 and its own stack; it never comes back. */
    __asm__ volatile("trap0(#1)\n\t"
                     "p0 = cmp.eq(r0, #0)\n\t"
                     "if (!p0) jump 1f\n\t"
                     "r0 = r29\n\t"
                     "r30 = #0\n\t"
                     "call %[main]\n\t"
                     "1:"
                     : "+r"(r0)
                     : "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r6), [main] "i"(thread_main)
                     : "memory", "p0", "r5", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
                       "r15", "r28", "r31");
    return r0 > 0;
}

void thread_join(struct thread *thread)
{
    for (int32_t id; (id = thread->id) != 0;)
        call(FUTEX, (long)&thread->id, FUTEX_WAIT, id, 0, 0, 0);
}

int main(void);

__attribute__((used, noreturn)) static void begin(void) { system_exit(main()); }

/* The stack of the process is aligned to 8 bytes only; spilled vectors need 128. */
__asm__(".globl _start\n"
        ".type _start, @function\n"
        "_start:\n\t"
        "{ r29 = and(r29, #-128)\n\t  r30 = #0 }\n\t"
        "call begin\n");
