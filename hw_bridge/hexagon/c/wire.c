#include "wire.h"

#include "system.h"

static int skip(uint64_t size)
{
    char scrap[4096];
    while (size) {
        size_t part = size < sizeof scrap ? (size_t)size : sizeof scrap;
        if (!wire_read(scrap, part))
            return -1;
        size -= part;
    }
    return 0;
}

/* Fail the job, then read what is left of its payload. */
static int refuse(struct job *job, uint64_t left, const char *why)
{
    job_fail(job, BAD_TENSORS, "%s", why);
    return skip(left);
}

int wire_payload(const struct request *request, struct job *job)
{
    static int64_t params[MAX_PARAMS];
    uint64_t left = request->payload;
    if (request->params > MAX_PARAMS || request->tensors > MAX_TENSORS)
        return refuse(job, left, "too many parameters or tensors");
    uint64_t heads = 8 * ((uint64_t)request->params + request->tensors);
    if (heads > left)
        return refuse(job, left, "the payload ends before its parameters and tensor heads");
    if (!wire_read(params, 8 * request->params))
        return -1;
    job->params = params;
    job->param_count = (int)request->params;
    uint64_t wanted = 0;
    for (uint32_t i = 0; i < request->tensors; i++) {
        uint32_t head[2];
        if (!wire_read(head, sizeof head))
            return -1;
        job->in[i] = (struct tensor){head[0], head[1], NULL};
        wanted += (uint64_t)head[0] * head[1];
    }
    left -= heads;
    for (uint32_t i = 0; i < request->tensors; i++) {
        uint32_t dtype = job->in[i].dtype, elements = job->in[i].elements;
        if ((dtype != INT8 && dtype != INT32 && dtype != INT64) || elements > MAX_ELEMENTS)
            return refuse(job, left, "a tensor has an unknown type or too many elements");
    }
    if (wanted != left)
        return refuse(job, left, "the payload is not as long as its tensors say");
    for (uint32_t i = 0; i < request->tensors; i++) {
        size_t bytes = (size_t)job->in[i].dtype * job->in[i].elements;
        job->in[i].data = job_memory(job, bytes);
        if (!job->in[i].data)
            return skip(left);
        if (!wire_read(job->in[i].data, bytes))
            return -1;
        left -= bytes;
    }
    job->in_count = (int)request->tensors;
    return 1;
}

uint64_t wire_answer_bytes(const struct job *job)
{
    if (job->status != DONE)
        return sizeof(struct answer) + strlen(job->message);
    uint64_t bytes = sizeof(struct answer) + 8 * (uint64_t)(job->value_count + job->out_count);
    for (int i = 0; i < job->out_count; i++)
        bytes += (uint64_t)job->out[i].dtype * job->out[i].elements;
    return bytes;
}

int wire_answer(const struct job *job)
{
    int failed = job->status != DONE;
    int values = failed ? 0 : job->value_count, tensors = failed ? 0 : job->out_count;
    struct answer answer = {
        .magic = ANSWER_MAGIC,
        .version = WIRE_VERSION,
        .status = (uint32_t)job->status,
        .values = (uint32_t)values,
        .tensors = (uint32_t)tensors,
        .text = failed ? (uint32_t)strlen(job->message) : 0,
        .packets = job->team.packets,
        .instructions = job->team.instructions,
        .hvx = job->team.hvx,
        .busiest = job->team.busiest,
    };
    answer.payload = wire_answer_bytes(job) - sizeof answer;
    if (!wire_write(&answer, sizeof answer) || !wire_write(job->values, 8 * values))
        return 0;
    for (int i = 0; i < tensors; i++) {
        uint32_t head[2] = {job->out[i].dtype, job->out[i].elements};
        if (!wire_write(head, sizeof head))
            return 0;
    }
    for (int i = 0; i < tensors; i++)
        if (!wire_write(job->out[i].data, (size_t)job->out[i].dtype * job->out[i].elements))
            return 0;
    return wire_write(job->message, answer.text);
}
