/* Kernels that treat every byte alike: ReLU both ways, and NITI's update of INT8 weights. */
#include "rescale.h"

struct bytes {
    const int8_t *a, *b;
    int8_t *out;
    int option;
};

static void relu_block(void *context, int first, int last, int thread)
{
    struct bytes *t = context;
    (void)thread;
    for (int i = first; i < last; i += VLEN)
        store_any(t->out + i, Q6_Vb_vmax_VbVb(load_any(t->a + i), Q6_V_vzero()),
                  last - i < VLEN ? last - i : VLEN);
}

/* The error where 0 < saved output < bound. */
static void mask_block(void *context, int first, int last, int thread)
{
    struct bytes *t = context;
    (void)thread;
    HVX_Vector most = Q6_V_vsplat_R(((t->option - 1) & 0xff) * 0x01010101);
    for (int i = first; i < last; i += VLEN) {
        HVX_Vector y = load_any(t->b + i);
        HVX_VectorPred passes = Q6_Q_and_QQn(Q6_Q_vcmp_gt_VbVb(y, Q6_V_vzero()),
                                             Q6_Q_vcmp_gt_VbVb(y, most));
        store_any(t->out + i, Q6_V_vmux_QVV(passes, load_any(t->a + i), Q6_V_vzero()),
                  last - i < VLEN ? last - i : VLEN);
    }
}

/* w - g: wrapped to 8 bits, or clipped to -127 .. 127. */
static void update_block(void *context, int first, int last, int thread)
{
    struct bytes *t = context;
    (void)thread;
    HVX_Vector low = Q6_V_vsplat_R(0x81818181);
    for (int i = first; i < last; i += VLEN) {
        HVX_Vector w = load_any(t->a + i), g = load_any(t->b + i), out;
        if (t->option)
            out = Q6_Vb_vsub_VbVb(w, g);
        else
            out = Q6_Vb_vmax_VbVb(Q6_Vb_vsub_VbVb_sat(w, g), low);
        store_any(t->out + i, out, last - i < VLEN ? last - i : VLEN);
    }
}

static int run_bytes(struct job *job, team_work work, int option)
{
    int64_t count = job->in[0].elements ? job->in[0].elements : 1;
    for (int i = 0; i < job->in_count; i++)
        if (!job_expect(job, i, INT8, count, i ? "the second tensor" : "the first tensor"))
            return 0;
    struct bytes task = {job->in[0].data, job->in[1].data, job_output(job, INT8, count), option};
    if (!task.out)
        return 0;
    team_run(&job->team, work, &task, (int)count, VLEN);
    return 1;
}

int run_relu_forward(struct job *job) { return run_bytes(job, relu_block, 0); }

int run_relu_input_grad(struct job *job)
{
    return job_check(job, 0, 1, 128, "bound") && run_bytes(job, mask_block, (int)job->params[0]);
}

int run_niti_update(struct job *job)
{
    return job_check(job, 0, 0, 1, "wrap") && run_bytes(job, update_block, (int)job->params[0]);
}
