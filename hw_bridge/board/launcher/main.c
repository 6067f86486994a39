/* The launcher: runs on the board's CPU, loads the board's FastRPC library, and does what the
   frames on stdin ask for, one after the other. It ends with its input, or when an order takes
   longer than its argument allows (seconds). */
#include "launcher.h"
#include "system.h"

#define MOST_ORDER_BYTES 4096
#define MOST_COUNT 1000000
#define MOST_COPY (1 << 28)

static struct launcher launcher = {.next = {CALLS_VERSION, 1, 0}};

static int load(struct launcher *l)
{
    const char *why = "", *name = rpc_load(&l->rpc, &why);
    if (!name)
        return say_failed(BAD_PARAMS, why);
    l->loaded = 1;
    return say_tensor(INT8, name, (uint32_t)text_length(name));
}

static int attributes(struct launcher *l)
{
    int64_t pairs[32];
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t asked[3] = {COMPUTE_DSP, i, 0};
        pairs[2 * i] = l->rpc.handle_control(CONTROL_ATTRIBUTE, asked, sizeof asked);
        pairs[2 * i + 1] = asked[2];
    }
    return say_tensor(INT64, pairs, 32);
}

static int session(struct launcher *l, int64_t stack)
{
    int32_t module[2] = {COMPUTE_DSP, 1};
    int32_t thread[3] = {COMPUTE_DSP, -1, (int32_t)stack};
    int64_t codes[2];
    codes[0] = l->rpc.session_control(SESSION_UNSIGNED, module, sizeof module);
    codes[1] = l->rpc.session_control(SESSION_THREAD, thread, sizeof thread);
    return say_values(codes, 2);
}

static int open_uri(struct launcher *l, const char *payload, uint64_t bytes)
{
    char uri[MOST_ORDER_BYTES + 1];
    memcpy(uri, payload, bytes);
    uri[bytes] = 0;
    int code = l->rpc.open(uri, &l->handle);
    if (code)
        return say_rpc("remote_handle64_open", code);
    l->opened = 1;
    return say_values(NULL, 0);
}

static int give_memory(struct launcher *l, int64_t bytes)
{
    uint64_t size = (uint64_t)bytes;
    int32_t status = 0;
    l->memory.data = shared_alloc(&l->rpc, size);
    int fd = l->memory.data ? l->rpc.memory_fd(l->memory.data) : -1;
    if (fd < 0)
        return say_failed(NO_MEMORY, "no memory that the DSP can map; see the node of the dma heap");
    int code = l->rpc.register_memory(fd, (uint32_t)size);
    if (code)
        return say_rpc("remote_register_dma_handle", code);
    union remote_argument a[] = {{.buffer = {&size, sizeof size}},
                                 {.buffer = {&status, sizeof status}},
                                 {.memory = {fd, 0}}};
    code = l->rpc.invoke(l->handle, SCALARS(ARENA, 1, 1, 1, 0), a);
    if (code)
        return say_rpc("memory call", code);
    if (status)
        return say_rpc("HAP_mmap", status);
    return say_values(NULL, 0);
}

static int tell(struct launcher *l)
{
    struct info info;
    int64_t numbers[16];
    const uint32_t *words = (const uint32_t *)&info;
    union remote_argument out = {.buffer = {&info, sizeof info}};
    int code = l->rpc.invoke(l->handle, SCALARS(INFO, 0, 1, 0, 0), &out);
    if (code)
        return say_rpc("info call", code);
    for (int i = 0; i < 8; i++)
        numbers[i] = words[i];
    memcpy(numbers + 8, &info.loop, sizeof info.loop);
    return say_tensor(INT64, numbers, 14);
}

static int vote(struct launcher *l, uint32_t on, uint32_t corner)
{
    struct power_request request = {on, corner};
    struct power_answer answer = {0, 0, 0};
    union remote_argument a[] = {{.buffer = {&request, sizeof request}},
                                 {.buffer = {&answer, sizeof answer}}};
    int code = l->rpc.invoke(l->handle, SCALARS(POWER, 1, 1, 0, 0), a);
    if (code)
        return say_rpc("power call", code);
    int64_t values[] = {answer.status, answer.interface, answer.clock_hz};
    return say_values(values, 3);
}

static int latency(struct launcher *l, uint32_t mode, uint32_t us)
{
    uint32_t words[2] = {mode, us};
    int64_t code = l->rpc.control(l->handle, CONTROL_LATENCY, words, sizeof words);
    return say_values(&code, 1);
}

static int steady(int64_t cpu, int64_t awake)
{
    int64_t codes[] = {cpu < 0 ? 0 : pin((int)cpu), awake ? stay_awake() : 0};
    if (!awake)
        let_sleep();
    return say_values(codes, 2);
}

static int leave(struct launcher *l)
{
    int code = l->opened ? l->rpc.close(l->handle) : 0;
    l->opened = 0;
    return code ? say_rpc("remote_handle64_close", code) : say_values(NULL, 0);
}

/* What each order takes: how many parameters, and the most that each may be (the least is 0, for
   STEADY's CPU -1); whether the library must be loaded, and opened. */
static const struct form {
    uint32_t params;
    int64_t most[4];
    int loaded, opened;
} FORMS[] = {
    [LOAD - FIRST_ORDER] = {0, {0}, 0, 0},
    [ATTRIBUTES - FIRST_ORDER] = {0, {0}, 1, 0},
    [SESSION - FIRST_ORDER] = {1, {1 << 23}, 1, 0},
    [OPEN_URI - FIRST_ORDER] = {0, {0}, 1, 0},
    [MEMORY - FIRST_ORDER] = {1, {1 << 30}, 1, 1},
    [TELL - FIRST_ORDER] = {0, {0}, 1, 1},
    [VOTE - FIRST_ORDER] = {2, {1, 255}, 1, 1},
    [LATENCY - FIRST_ORDER] = {2, {3, 10000}, 1, 1},
    [STEADY - FIRST_ORDER] = {2, {1023, 1}, 0, 0},
    [NULL_CALLS - FIRST_ORDER] = {3, {MOST_COUNT, MOST_COUNT, 1000000}, 1, 1},
    [COPIES - FIRST_ORDER] = {4, {MOST_COPY, 1, MOST_COUNT, MOST_COUNT}, 1, 1},
    [REPEAT - FIRST_ORDER] = {2, {MAX_LAPS, MAX_LAPS}, 1, 1},
    [LAPS - FIRST_ORDER] = {0, {0}, 1, 1},
    [LEAVE - FIRST_ORDER] = {0, {0}, 0, 0},
};
#define ORDERS (sizeof FORMS / sizeof *FORMS)

/* Why an order is refused; NULL if it is not. */
static const char *refusal(const struct launcher *l, const struct request *r, const int64_t *p)
{
    if (r->kernel - FIRST_ORDER >= ORDERS)
        return "no order has this number";
    const struct form *form = &FORMS[r->kernel - FIRST_ORDER];
    uint32_t tensors = r->kernel == OPEN_URI;
    if (r->params != form->params || r->tensors != tensors)
        return "the order has a wrong number of parameters or tensors";
    for (uint32_t i = 0; i < form->params; i++)
        if (p[i] > form->most[i] || p[i] < -(r->kernel == STEADY && i == 0))
            return "a parameter of the order is out of its range";
    const uint32_t *head = (const uint32_t *)p;
    if (tensors && (head[0] != INT8 || head[1] != r->payload - 8))
        return "the order's text is not as long as its frame says";
    if ((form->loaded && !l->loaded) || (form->opened && !l->opened))
        return "the order came before the library was loaded or opened";
    return NULL;
}

/* Whether the answer was read. */
static int obey(struct launcher *l, const struct request *r, const int64_t *p)
{
    const char *why = refusal(l, r, p);
    if (why)
        return say_failed(BAD_PARAMS, why);
    switch (r->kernel) {
    case LOAD:
        return load(l);
    case ATTRIBUTES:
        return attributes(l);
    case SESSION:
        return session(l, p[0]);
    case OPEN_URI:
        return open_uri(l, (const char *)p + 8, r->payload - 8);
    case MEMORY:
        return give_memory(l, p[0]);
    case TELL:
        return tell(l);
    case VOTE:
        return vote(l, (uint32_t)p[0], (uint32_t)p[1]);
    case LATENCY:
        return latency(l, (uint32_t)p[0], (uint32_t)p[1]);
    case STEADY:
        return steady(p[0], p[1]);
    case NULL_CALLS:
        return measure_null_calls(l, p[0], p[1], p[2]);
    case COPIES:
        return measure_copies(l, p[0], (int)p[1], p[2], p[3]);
    case REPEAT:
        if (!p[0])
            return say_failed(BAD_PARAMS, "repetitions is 0; allowed: 1 .. 4096");
        l->next = (struct run_request){CALLS_VERSION, (uint32_t)p[0], (uint32_t)p[1]};
        return say_values(NULL, 0);
    case LAPS:
        return say_laps(l);
    default:
        return leave(l);
    }
}

/* A frame for the DSP, or an order; 0 where no more can follow. */
static int serve(struct launcher *l, const struct request *r)
{
    static int64_t small[MOST_ORDER_BYTES / 8];
    if (r->magic != REQUEST_MAGIC || r->version != WIRE_VERSION || r->payload > MAX_PAYLOAD) {
        say_failed(BAD_FRAME, "the input is no frame of this protocol");
        return 0;
    }
    if (r->kernel >= FIRST_ORDER) {
        if (r->payload < 8ULL * (r->params + r->tensors) || r->payload > sizeof small) {
            say_failed(BAD_FRAME, "an order is longer than orders are");
            return 0;
        }
        return read_all(small, r->payload) && obey(l, r, small);
    }
    if (!l->opened) {
        say_failed(BAD_FRAME, "a kernel came before the library was opened");
        return 0;
    }
    size_t bytes = sizeof *r + r->payload;
    if (!grow(l, &l->frame, bytes, 1)) {
        say_failed(NO_MEMORY, "no shared memory for the frame");
        return 0;
    }
    memcpy(l->frame.data, r, sizeof *r);
    return read_all((char *)l->frame.data + sizeof *r, r->payload) && run_kernel(l, bytes);
}

static int64_t number(const char *text)
{
    int64_t value = 0;
    for (; *text >= '0' && *text <= '9' && value < 1000000; text++)
        value = value * 10 + (*text - '0');
    return value;
}

int main(int count, char **arguments)
{
    int64_t seconds = count > 1 ? number(arguments[1]) : 600;
    struct request request;
    keep_stdout();
    do
        watch(seconds);
    while (read_all(&request, sizeof request) && (watch(seconds), serve(&launcher, &request)));
    if (launcher.opened)
        launcher.rpc.close(launcher.handle);
    return 0;
}
