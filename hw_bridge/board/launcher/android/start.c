/* How a program starts on Android, without its C library's own files: the dynamic linker has
   set that library up before it comes here. Ends through exit, so that libraries close. */
extern void exit(int code) __attribute__((noreturn));

int main(int count, char **arguments);

__attribute__((used, noreturn)) static void begin(long *stack)
{
    exit(main((int)stack[0], (char **)(stack + 1)));
}

__asm__(".globl _start\n"
        ".type _start, %function\n"
        "_start:\n\t"
        "mov x29, #0\n\t"
        "mov x30, #0\n\t"
        "mov x0, sp\n\t"
        "and sp, x0, #-16\n\t"
        "b begin\n");
