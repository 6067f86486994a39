/* The board's own libcdsprpc, loaded at run time: nothing of it is linked or shipped. */
#ifndef MANDHELING_RPC_H
#define MANDHELING_RPC_H

#include <stddef.h>
#include <stdint.h>

#define COMPUTE_DSP 3 /* the domain */

union remote_argument { /* 16 bytes on AArch64 */
    struct {
        void *data;
        size_t bytes;
    } buffer;
    struct {
        int32_t fd;
        uint32_t offset;
    } memory;
    uint64_t handle;
};

#define SCALARS(method, in, out, handles_in, handles_out)                                          \
    ((uint32_t)(method) << 24 | (in) << 16 | (out) << 8 | (handles_in) << 4 | (handles_out))

struct rpc {
    int (*session_control)(uint32_t request, void *data, uint32_t bytes);
    int (*handle_control)(uint32_t request, void *data, uint32_t bytes);
    int (*open)(const char *uri, uint64_t *handle);
    int (*invoke)(uint64_t handle, uint32_t scalars, union remote_argument *arguments);
    int (*close)(uint64_t handle);
    int (*control)(uint64_t handle, uint32_t request, void *data, uint32_t bytes);
    void *(*memory_alloc)(int heap, uint32_t flags, int bytes);
    void (*memory_free)(void *at);
    int (*memory_fd)(void *at);
    int (*register_memory)(int fd, uint32_t bytes);
};

/* Requests of session_control, handle_control and control. */
enum { SESSION_THREAD = 1, SESSION_UNSIGNED = 2 };
enum { CONTROL_LATENCY = 1, CONTROL_ATTRIBUTE = 2 };

/* Load it; the name that was found, or NULL with the reason in *why. */
const char *rpc_load(struct rpc *rpc, const char **why);

/* Memory that the DSP maps instead of copying; NULL if there is none. */
void *shared_alloc(const struct rpc *rpc, size_t bytes);

#endif
