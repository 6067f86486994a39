#include "job.h"

#include <stdarg.h>

#include "system.h"

static char *arena;

static char *put_number(char *to, const char *end, int64_t value)
{
    char digits[20];
    int count = 0;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do
        digits[count++] = (char)('0' + left % 10);
    while (left /= 10);
    if (value < 0 && to < end)
        *to++ = '-';
    while (count && to < end)
        *to++ = digits[--count];
    return to;
}

int job_fail(struct job *job, int status, const char *format, ...)
{
    char *to = job->message;
    const char *end = to + sizeof job->message - 1;
    va_list arguments;
    va_start(arguments, format);
    for (; *format && to < end; format++) {
        if (format[0] == '%' && format[1] == 'd') {
            to = put_number(to, end, va_arg(arguments, int64_t));
            format++;
        } else if (format[0] == '%' && format[1] == 's') {
            for (const char *text = va_arg(arguments, const char *); *text && to < end; text++)
                *to++ = *text;
            format++;
        } else {
            *to++ = *format;
        }
    }
    va_end(arguments);
    *to = 0;
    job->status = status;
    return 0;
}

void *job_memory(struct job *job, uint64_t bytes)
{
    if (!arena)
        arena = system_map(ARENA_BYTES);
    size_t wanted = bytes > ARENA_BYTES / 2 ? ARENA_BYTES : round_up(bytes, VLEN) + SLACK;
    if (!arena || wanted > ARENA_BYTES - job->held) {
        job_fail(job, NO_MEMORY, "no memory for %d bytes more", (int64_t)bytes);
        return NULL;
    }
    void *block = arena + job->held;
    job->held += wanted;
    return block;
}

void *job_zeros(struct job *job, uint64_t bytes)
{
    void *block = job_memory(job, bytes);
    if (block)
        memset(block, 0, round_up(bytes, VLEN) + SLACK);
    return block;
}

void job_release(struct job *job, size_t held) { job->held = held; }

void *job_output(struct job *job, uint32_t dtype, uint64_t elements)
{
    if (elements > MAX_ELEMENTS) {
        job_fail(job, BAD_PARAMS, "the result has %d elements; allowed: %d", (int64_t)elements,
                 (int64_t)MAX_ELEMENTS);
        return NULL;
    }
    void *data = job_memory(job, elements * dtype);
    if (data)
        job->out[job->out_count++] = (struct tensor){dtype, (uint32_t)elements, data};
    return data;
}

void job_return(struct job *job, int input) { job->out[job->out_count++] = job->in[input]; }

void job_value(struct job *job, int64_t value) { job->values[job->value_count++] = value; }

int job_check(struct job *job, int i, int64_t low, int64_t high, const char *name)
{
    int64_t value = job->params[i];
    if (value >= low && value <= high)
        return 1;
    return job_fail(job, BAD_PARAMS, "%s is %d; allowed: %d .. %d", name, value, low, high);
}

int job_expect(struct job *job, int i, uint32_t dtype, int64_t elements, const char *name)
{
    const struct tensor *t = &job->in[i];
    if (t->dtype == dtype && t->elements == elements)
        return 1;
    return job_fail(job, BAD_TENSORS, "%s is %d elements of int%d; allowed: %d of int%d", name,
                    (int64_t)t->elements, (int64_t)t->dtype * 8, elements, (int64_t)dtype * 8);
}
