/* A libcdsprpc for tests: the functions of a board's, and behind them a DSP in an emulator.

   What the board is like comes from the environment: TEST_DSP, the words that start the DSP;
   TEST_ARCH, its version; TEST_OPEN_CODE, what opening gives; TEST_UNSIGNED=0, a firmware without
   unsigned modules; TEST_CRASH_AFTER, TEST_HANG_AFTER: calls until it does so; TEST_FLIP=1, a DSP
   that gives back wrong bytes; TEST_TIMER=1, one whose timer counts;
   TEST_MODES=0, a library without quality of service; TEST_SHARED_BYTES, all shared memory. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define DOMAIN 3
#define BAD_PARAMETER 0x0e
#define RPC_FAILURE 0x80000600
#define NO_SUCH_FILE 0x80000406
#define CONNECTION_RESET 104
#define BAD_STATE 0x8000040d

typedef union {
    struct {
        void *data;
        size_t bytes;
    } buffer;
    struct {
        int32_t fd;
        uint32_t offset;
    } memory;
    uint64_t handle;
} argument;

static struct {
    void *at;
    size_t bytes;
    int fd, registered;
} memory[64];

static int to_dsp = -1, from_dsp, calls;
static pid_t dsp;
static int is_unsigned, stack_bytes = 16384;

static long setting(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 0) : otherwise;
}

/* 68 is told as 0x68. */
static uint32_t arch(void)
{
    uint32_t number = (uint32_t)setting("TEST_ARCH", 68);
    return number / 10 * 16 + number % 10;
}

/* Some libraries are not silent. */
__attribute__((constructor)) static void greet(void)
{
    puts("libcdsprpc of the tests");
    fflush(stdout);
}

static int put(const void *from, size_t bytes)
{
    for (const char *at = from; bytes;) {
        ssize_t done = write(to_dsp, at, bytes);
        if (done <= 0)
            return 0;
        at += done;
        bytes -= (size_t)done;
    }
    return 1;
}

static int get(void *to, size_t bytes)
{
    for (char *at = to; bytes;) {
        ssize_t done = read(from_dsp, at, bytes);
        if (done <= 0)
            return 0;
        at += done;
        bytes -= (size_t)done;
    }
    return 1;
}

/* Start the DSP's process; its words are separated by spaces. */
static int start(void)
{
    int down[2], up[2], count = 0;
    char *words[16], *text = strdup(getenv("TEST_DSP") ? getenv("TEST_DSP") : "");
    for (char *word = strtok(text, " "); word && count < 15; word = strtok(NULL, " "))
        words[count++] = word;
    words[count] = NULL;
    if (!count || pipe(down) || pipe(up))
        return 0;
    signal(SIGPIPE, SIG_IGN);
    dsp = fork();
    if (!dsp) {
        dup2(down[0], 0);
        dup2(up[1], 1);
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        unsetenv("LD_LIBRARY_PATH");
        execv(words[0], words);
        _exit(127);
    }
    close(down[0]);
    close(up[1]);
    to_dsp = down[1];
    from_dsp = up[0];
    return dsp > 0;
}

/* The library's bytes, from the first folder of DSP_LIBRARY_PATH that has it. */
static char *find(const char *name, uint32_t *bytes)
{
    char path[4096];
    const char *folders = getenv("DSP_LIBRARY_PATH");
    for (const char *at = folders ? folders : ""; *at;) {
        size_t length = strcspn(at, ";");
        snprintf(path, sizeof path, "%.*s/%s", (int)length, at, name);
        int file = open(path, O_RDONLY);
        struct stat status;
        if (file >= 0 && !fstat(file, &status)) {
            char *all = malloc((size_t)status.st_size + 1);
            *bytes = (uint32_t)read(file, all, (size_t)status.st_size);
            close(file);
            return all;
        }
        at += length + (at[length] == ';');
    }
    return NULL;
}

static int load(const char *name)
{
    uint32_t head[3] = {arch(), 0, (uint32_t)setting("TEST_TIMER", 0)};
    int32_t code;
    char *file = find(name, &head[1]);
    if (!file || !start())
        return (int)NO_SUCH_FILE;
    int fine = put(head, sizeof head) && put(file, head[1]) && get(&code, sizeof code);
    free(file);
    return fine ? code : CONNECTION_RESET;
}

static int carry(uint64_t handle, uint32_t scalars, argument *a)
{
    int in = scalars >> 16 & 255, out = scalars >> 8 & 255, ins = scalars >> 4 & 15,
        outs = scalars & 15;
    struct {
        uint64_t handle;
        uint32_t scalars, padding;
    } call = {handle, scalars, 0};
    int fine = put(&call, sizeof call);
    for (int i = 0; i < in + out && fine; i++) {
        uint32_t element[2] = {0, (uint32_t)a[i].buffer.bytes};
        fine = put(element, sizeof element);
    }
    for (int i = in + out; i < in + out + ins && fine; i++)
        fine = put(&a[i], 8);
    for (int i = 0; i < in && fine; i++)
        fine = put(a[i].buffer.data, a[i].buffer.bytes);
    int32_t code;
    fine = fine && get(&code, sizeof code);
    for (int i = in; i < in + out && fine; i++)
        fine = get(a[i].buffer.data, a[i].buffer.bytes);
    for (int i = 0; i < outs && fine; i++)
        fine = get(&a[in + out + ins + i].handle, 8);
    if (fine && setting("TEST_FLIP", 0) && out && a[in].buffer.bytes > 256)
        ((char *)a[in].buffer.data)[a[in].buffer.bytes - 1] ^= 1;
    return fine ? code : CONNECTION_RESET;
}

EXPORT int remote_session_control(uint32_t request, void *data, uint32_t bytes)
{
    const int32_t *words = data;
    if (to_dsp >= 0)
        return (int)BAD_STATE;
    if (request == 2 && bytes == 8 && words[0] == DOMAIN)
        return (is_unsigned = words[1]), 0;
    if (request == 1 && bytes == 12 && words[0] == DOMAIN && words[2] >= 16384)
        return (stack_bytes = words[2]), 0;
    return BAD_PARAMETER;
}

EXPORT int remote_handle_control(uint32_t request, void *data, uint32_t bytes)
{
    uint32_t *words = data;
    const uint32_t values[] = {[0] = 1,    [1] = (uint32_t)setting("TEST_UNSIGNED", 1),
                               [3] = 4,    [4] = 2 << 20,
                               [5] = 1,    [6] = 0x8a00 | arch(),
                               [9] = 1};
    if (request != 2 || bytes != 12 || words[0] != DOMAIN)
        return BAD_PARAMETER;
    if (words[1] > 9)
        return 0x14;
    words[2] = values[words[1]];
    return 0;
}

EXPORT int remote_handle64_open(const char *uri, uint64_t *handle)
{
    char name[256] = "", symbol[256] = "";
    long code = setting("TEST_OPEN_CODE", 0);
    if (code)
        return (int)(uint32_t)code;
    if (!strstr(uri, "&_dom=cdsp") || !strstr(uri, "&_modver=1.0")
        || sscanf(uri, "file:///%255[^?]?%255[^&]", name, symbol) != 2
        || strcmp(symbol, "mandheling_skel_handle_invoke"))
        return BAD_PARAMETER;
    if (!is_unsigned)
        return (int)0x80000481;
    if (stack_bytes < 65536)
        return (int)RPC_FAILURE;
    int result = load(name);
    if (result)
        return result;
    uint32_t length = (uint32_t)strlen(uri) + 1;
    argument a[3] = {{.buffer = {&length, 4}}, {.buffer = {(char *)uri, length}}};
    result = carry(0, 0x00020001, a);
    *handle = a[2].handle;
    return result;
}

EXPORT int remote_handle64_invoke(uint64_t handle, uint32_t scalars, argument *a)
{
    calls++;
    if (calls > setting("TEST_CRASH_AFTER", 1 << 30))
        kill(dsp, SIGKILL);
    if (calls > setting("TEST_HANG_AFTER", 1 << 30))
        for (;;)
            pause();
    int in_out = (int)(scalars >> 16 & 255) + (int)(scalars >> 8 & 255);
    for (int i = 0; i < (int)(scalars >> 4 & 15); i++) {
        int known = 0;
        for (int k = 0; k < 64; k++)
            if (memory[k].at && memory[k].fd == a[in_out + i].memory.fd && memory[k].registered)
                known = 1, memory[k].registered = 0;
        if (!known)
            return BAD_PARAMETER;
    }
    return carry(handle, scalars, a);
}

EXPORT int remote_handle64_close(uint64_t handle)
{
    argument a = {.handle = handle};
    int code = carry(0, 0x01000010, &a);
    close(to_dsp);
    close(from_dsp);
    waitpid(dsp, NULL, 0);
    to_dsp = -1;
    return code;
}

EXPORT int remote_handle64_control(uint64_t handle, uint32_t request, void *data, uint32_t bytes)
{
    const uint32_t *words = data;
    (void)handle;
    if (request != 1 || bytes != 8)
        return BAD_PARAMETER;
    if (setting("TEST_MODES", 1) == 0)
        return 0x14;
    return words[0] == 3 ? 0x14 : 0; /* polling is not offered here */
}

EXPORT void *rpcmem_alloc(int heap, uint32_t flags, int bytes)
{
    if (heap != 25 || flags != 1 || bytes <= 0)
        return NULL;
    long held = bytes;
    for (int i = 0; i < 64; i++)
        held += memory[i].at ? (long)memory[i].bytes : 0;
    if (held > setting("TEST_SHARED_BYTES", 1L << 40))
        return NULL;
    for (int i = 0; i < 64; i++)
        if (!memory[i].at) {
            int fd = memfd_create("rpcmem", 0);
            if (fd < 0 || ftruncate(fd, bytes))
                return NULL;
            void *at = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (at == MAP_FAILED)
                return NULL;
            memory[i].at = at;
            memory[i].bytes = (size_t)bytes;
            memory[i].fd = fd;
            return at;
        }
    return NULL;
}

EXPORT void rpcmem_free(void *at)
{
    for (int i = 0; i < 64; i++)
        if (memory[i].at == at && at) {
            munmap(at, memory[i].bytes);
            close(memory[i].fd);
            memory[i].at = NULL;
        }
}

EXPORT int rpcmem_to_fd(void *at)
{
    for (int i = 0; i < 64; i++)
        if (memory[i].at == at && at)
            return memory[i].fd;
    return -1;
}

EXPORT int remote_register_dma_handle(int fd, uint32_t bytes)
{
    for (int i = 0; i < 64; i++)
        if (memory[i].at && memory[i].fd == fd && memory[i].bytes == bytes)
            return (memory[i].registered = 1), 0;
    return BAD_PARAMETER;
}
