#include "rpc.h"

/* Of the C library; declared here, since Android's and glibc's headers are not at hand together. */
extern void *dlopen(const char *name, int mode);
extern void *dlsym(void *library, const char *symbol);
extern char *dlerror(void);

#define BIND_NOW 2
#define HEAP_SYSTEM 25
#define CACHED 1

/* Bare names first: the linker's own paths hold the library that fits the others of the system. */
static const char *const NAMES[] = {
    "libcdsprpc.so",
    "libcdsprpc.so.1",
    "/vendor/lib64/libcdsprpc.so",
    "/usr/lib/aarch64-linux-gnu/libcdsprpc.so.1",
};

static const struct {
    const char *name;
    size_t at;
} FUNCTIONS[] = {
    {"remote_session_control", offsetof(struct rpc, session_control)},
    {"remote_handle_control", offsetof(struct rpc, handle_control)},
    {"remote_handle64_open", offsetof(struct rpc, open)},
    {"remote_handle64_invoke", offsetof(struct rpc, invoke)},
    {"remote_handle64_close", offsetof(struct rpc, close)},
    {"remote_handle64_control", offsetof(struct rpc, control)},
    {"rpcmem_alloc", offsetof(struct rpc, memory_alloc)},
    {"rpcmem_free", offsetof(struct rpc, memory_free)},
    {"rpcmem_to_fd", offsetof(struct rpc, memory_fd)},
    {"remote_register_dma_handle", offsetof(struct rpc, register_memory)},
};

const char *rpc_load(struct rpc *rpc, const char **why)
{
    void *library = NULL;
    const char *name = NULL;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES && !library; i++) {
        name = NAMES[i];
        library = dlopen(name, BIND_NOW);
        if (!library)
            *why = dlerror();
    }
    if (!library)
        return NULL;
    for (size_t i = 0; i < sizeof FUNCTIONS / sizeof *FUNCTIONS; i++) {
        void *found = dlsym(library, FUNCTIONS[i].name);
        if (!found) {
            *why = FUNCTIONS[i].name;
            return NULL;
        }
        *(void **)((char *)rpc + FUNCTIONS[i].at) = found;
    }
    return name;
}

void *shared_alloc(const struct rpc *rpc, size_t bytes)
{
    return bytes > INT32_MAX ? NULL : rpc->memory_alloc(HEAP_SYSTEM, CACHED, (int)bytes);
}
