/* The knowledge-graph convolution of kgkit/nn/kg_conv.py compiled: training steps with Adam, and scores of all items.
 *
 * Equation numbers are KGCN's (arXiv 1904.12575). A pair's receptive field is a K-ary heap: node 0 is the item, the
 * children of node n are n * K + 1 ... n * K + K; level i of the representations covers hops 0 ... H - i, a prefix.
 * "Inner" nodes are those of hops 0 ... H - 1, which have children.
 *
 * A step has two phases. First, threads take blocks of examples and leave each example's gradients in slots. Then
 * each thread adds the slots, in the order of examples, to the table rows that it owns, and takes Adam's step there.
 * So the order of additions, and the result to the last bit, does not depend on the number of threads.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vector_math.h"
#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) { return 0; }
static int omp_get_num_threads(void) { return 1; }
#endif

/* The library is built for one size of vectors and of neighbourhoods. */
#ifndef D
#define D 16
#endif
#ifndef K
#define K 8
#endif
#define W (D % 16 == 0 ? 16 : D % 8 == 0 ? 8 : D % 4 == 0 ? 4 : 1)

#define BLOCK 16          /* examples whose weight-matrix gradients share one buffer */
#define CHUNK 1024        /* most examples between two scatters */
#define SLOT_BYTES (1 << 22) /* about what the slots of a chunk may take */
#define LABEL_MARGIN 1e-4f /* as in kg_conv.py */

enum { SUM, CONCAT, NEIGHBOR, AVG };
enum { USER, ENTITY, RELATION, WEIGHT, BIAS, TABLES };

typedef struct {
    int64_t users, entities, relations, items;
    int64_t hops, aggregator, authors, threads;
    const int32_t *near_entity, *near_relation; /* [entities, k] */
    const float *linked;                        /* [entities] */
    const int64_t *item_entity;                 /* [items] */
    float *table[TABLES]; /* user, entity, relation [., d]; weight [hops, inputs, d]; bias [hops, d] */
} Model;

typedef struct {
    float *mean[TABLES], *square[TABLES]; /* Adam's moments, shaped as the tables */
    double rate, beta1, beta2, epsilon, l2, ls_weight;
    int64_t taken;             /* steps before this call */
    const int64_t *label_key;  /* sorted user * entities + entity, or NULL without label smoothness */
    const float *label;        /* by position among the keys */
    const int64_t *label_start; /* [users + 1], a user's range among the keys */
    const uint8_t *labelled;   /* [entities], whether any user labels it */
} Training;

/* tanh to 3e-7 (relative): x P(x^2) / Q(x^2), fitted for the smallest greatest error on [-8, 8], where float32 ends. */
INLINE float tanh_(float x)
{
    x = x < -8.0f ? -8.0f : x;
    x = x > 8.0f ? 8.0f : x;
    const float z = x * x;
    float p = -1.156418998e-13f, q = 2.612971697e-4f;
    p = p * z + 6.365492173e-11f;
    p = p * z - 2.231458399e-8f;
    p = p * z + 1.164242518e-5f;
    p = p * z + 3.149362972e-3f;
    p = p * z + 1.312434821e-1f;
    p = p * z + 1.0f;
    q = q * z + 2.467499345e-2f;
    q = q * z + 4.645767971e-1f;
    q = q * z + 1.0f;
    return x * p / q;
}

/* A vector of D numbers, in registers where it fits: W divides D, and the compiler splits what is too wide for it. */
typedef float part __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef struct {
    part at[D / W];
} row;

INLINE row load(const float *p)
{
    row r;
    for (int i = 0; i < D / W; i++)
        r.at[i] = ((const part *)p)[i];
    return r;
}

INLINE void store(float *p, row r)
{
    for (int i = 0; i < D / W; i++)
        ((part *)p)[i] = r.at[i];
}

/* a + by * b */
INLINE row plus(row a, row b, float by)
{
    for (int i = 0; i < D / W; i++)
        a.at[i] += by * b.at[i];
    return a;
}

INLINE row times(row a, float by)
{
    for (int i = 0; i < D / W; i++)
        a.at[i] *= by;
    return a;
}

INLINE row zero(void)
{
    row r;
    memset(&r, 0, sizeof r);
    return r;
}

INLINE void add_to(float *p, row r, float by) { store(p, plus(load(p), r, by)); }

INLINE float dot(row a, row b)
{
    float lane[W], s = 0;
    part product = a.at[0] * b.at[0];
    for (int i = 1; i < D / W; i++)
        product += a.at[i] * b.at[i];
    memcpy(lane, &product, sizeof lane);
    for (int j = 0; j < W; j++)
        s += lane[j];
    return s;
}

/* y + x [n] . w [n, D], in two sums that do not wait for each other */
INLINE row plus_product(row y, const float *x, const float *w, int n)
{
    row other = zero();
    int i = 0;
    for (; i + 1 < n; i += 2) {
        y = plus(y, load(w + i * D), x[i]);
        other = plus(other, load(w + i * D + D), x[i + 1]);
    }
    if (i < n)
        y = plus(y, load(w + i * D), x[i]);
    return plus(y, other, 1);
}

/* sigma of Eq. 4 to 6 */
INLINE void activate(float *y, int last)
{
    if (last)
        for (int j = 0; j < D; j++)
            y[j] = tanh_(y[j]);
    else
        for (int j = 0; j < D; j++)
            y[j] = y[j] > 0 ? y[j] : 0;
}

static int64_t inputs_of(const Model *m) { return m->aggregator == CONCAT ? 2 * D : D; }

/* Nodes of hops 0 ... h. */
static int64_t nodes_to(int64_t h)
{
    int64_t total = 1, level = 1;
    for (int64_t i = 0; i < h; i++)
        total += level *= K;
    return total;
}

/* --- One example: forward and backward ---------------------------------------------------------------------------- */

/* What an example leaves for the scatter. Inner nodes are I in number. */
typedef struct {
    int32_t user;
    int32_t *entity;    /* [I] */
    float *alpha;       /* [I, K] what Eq. 2 multiplies neighbours by: weight, 1/K if so, 0 if not linked */
    float *score;       /* [I, K] gradient of the inner products of Eq. 1 */
    float *vector;      /* [d] the user's vector before the step */
    float *user_grad;   /* [d] */
    float *own, *near;  /* [I, d] gradients of a node's own vector and of its neighbourhood vector */
} Slot;

/* A thread's working memory. */
typedef struct {
    int32_t *entity;           /* [nodes] */
    float *weight;             /* [I, K] Eq. 3 */
    float *alpha_grad;         /* [I, K] */
    float **level, **input;    /* level[i] [nodes to H - i, d], i = 1 ... H; input[i] [nodes to H - 1 - i, inputs] */
    float **grad;              /* like level */
    float *transposed;         /* [H, inputs / d, d, d], each square of the matrices transposed */
    float *label, *label_grad; /* [nodes] */
    uint8_t *fixed;            /* [I] nodes whose label is known (or that have no neighbours) */
} Work;

static float lookup(const Model *m, const Training *t, int64_t user, int32_t entity)
{
    if (!t->labelled[entity])
        return 0.5f;
    const int64_t key = user * m->entities + entity;
    int64_t low = t->label_start[user], high = t->label_start[user + 1];
    while (low < high) {
        const int64_t middle = (low + high) >> 1;
        if (t->label_key[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < t->label_start[user + 1] && t->label_key[low] == key ? t->label[low] : 0.5f;
}

/* Binary cross-entropy with a logit; *slope becomes its derivative. */
static float cross_entropy(float logit, float y, float *slope)
{
    const float e = expf(-fabsf(logit));
    *slope = (logit >= 0 ? 1.0f / (1.0f + e) : e / (1.0f + e)) - y;
    return (logit > 0 ? logit : 0) - logit * y + log1pf(e);
}

/* Inner product of K numbers. */
INLINE float total(const float *a, const float *b)
{
    float s = 0;
    for (int c = 0; c < K; c++)
        s += a[c] * b[c];
    return s;
}

/* KGNN-LS Eq. 7 for this example: adds to alpha_grad, returns the loss (times `share`, as the gradients). */
static float label_term(const Model *m, const Training *t, const Slot *slot, Work *w, float y, float share)
{
    const int64_t inner = nodes_to(m->hops - 1), all = nodes_to(m->hops);
    const int32_t item = w->entity[0];
    for (int64_t n = 0; n < all; n++)
        w->label[n] = w->entity[n] == item ? 0.5f : lookup(m, t, slot->user, w->entity[n]);
    for (int64_t n = 0; n < inner; n++)
        w->fixed[n] = w->label[n] != 0.5f || m->linked[w->entity[n]] == 0;
    for (int64_t n = inner - 1; n >= 0; n--)
        if (!w->fixed[n])
            w->label[n] = total(slot->alpha + n * K, w->label + n * K + 1);
    float slope, loss;
    const float p = w->label[0];
    if (m->authors) {
        loss = cross_entropy(p, y, &slope);
    } else {
        const int inside = p >= LABEL_MARGIN && p <= 1 - LABEL_MARGIN;
        const float q = inside ? p : p < 0.5f ? LABEL_MARGIN : 1 - LABEL_MARGIN;
        loss = -(y * logf(q) + (1 - y) * logf(1 - q));
        slope = inside ? (q - y) / (q * (1 - q)) : 0;
    }
    w->label_grad[0] = share * slope;
    for (int64_t n = 0; n < inner; n++) {
        const float g = w->fixed[n] ? 0 : w->label_grad[n];
        for (int64_t c = 0; c < K; c++) {
            w->alpha_grad[n * K + c] += g * w->label[n * K + 1 + c];
            w->label_grad[n * K + 1 + c] = g * slot->alpha[n * K + c];
        }
    }
    return share * loss;
}

/* Eq. 1 of an entity's edges for a user: out [K] */
INLINE void relation_scores(const Model *m, row u, int64_t e, float *out)
{
    const float scale = m->authors ? 1.0f / (float)D : 1.0f;
    for (int c = 0; c < K; c++)
        out[c] = scale * dot(u, load(m->table[RELATION] + m->near_relation[e * K + c] * (int64_t)D));
}

/* e^(x - max x) in place; returns the sum. */
INLINE float exponentials(float *x)
{
    float top = x[0], sum = 0;
    for (int c = 1; c < K; c++)
        top = x[c] > top ? x[c] : top;
    for (int c = 0; c < K; c++)
        x[c] = exp_(x[c] - top);
    for (int c = 0; c < K; c++)
        sum += x[c];
    return sum;
}

/* Eq. 1 and 3 of every inner node, into w->weight and slot->alpha. */
INLINE void weigh(const Model *m, row u, Slot *slot, Work *w, int64_t inner)
{
    for (int64_t n = 0; n < inner; n++) {
        const int32_t e = w->entity[n];
        float *alpha = slot->alpha + n * K, weight[K];
        const float linked = m->linked[e];
        if (m->aggregator == AVG) {
            for (int c = 0; c < K; c++)
                alpha[c] = linked / (float)K;
            continue;
        }
        relation_scores(m, u, e, weight);
        const float one = 1.0f / exponentials(weight), share = m->authors ? linked / (float)K : linked;
        for (int c = 0; c < K; c++) {
            w->weight[n * K + c] = weight[c] * one;
            alpha[c] = weight[c] * one * share;
        }
    }
}

/* Order-i representation of a node of the receptive field; that of order 0 is the entity's vector. */
INLINE const float *vector(const Model *m, const Work *w, int64_t i, int64_t node)
{
    return i ? w->level[i] + node * D : m->table[ENTITY] + w->entity[node] * (int64_t)D;
}

/* Algorithm 1, lines 4-9, into w->level; keeps the aggregators' inputs for the way back. */
INLINE void forward(const Model *m, const Slot *slot, Work *w, int64_t inner)
{
    const int64_t h = m->hops, in = inputs_of(m);
    for (int64_t i = 0, nodes = inner; i < h; i++, nodes = (nodes - 1) / K) {
        for (int64_t n = 0; n < nodes; n++) {
            float *x = w->input[i] + n * in, *z = w->level[i + 1] + n * D;
            row near = zero();
            for (int c = 0; c < K; c++) /* Eq. 2 */
                near = plus(near, load(vector(m, w, i, n * K + 1 + c)), slot->alpha[n * K + c]);
            if (m->aggregator == CONCAT) {
                store(x, load(vector(m, w, i, n)));
                store(x + D, near);
            } else {
                store(x, m->aggregator == NEIGHBOR ? near : plus(near, load(vector(m, w, i, n)), 1));
            }
            store(z, plus_product(load(m->table[BIAS] + i * D), x, m->table[WEIGHT] + i * in * D, (int)in));
            activate(z, i == h - 1);
        }
    }
}

/* From w->grad[H] down: gradients of matrices and biases, of alpha, and of the entities' vectors into the slot. */
INLINE void backward(const Model *m, Slot *slot, Work *w, float *matrix_grad)
{
    const int64_t h = m->hops, in = inputs_of(m);
    float *bias_grad = matrix_grad + h * in * D;
    for (int64_t i = h - 1, nodes = 1; i >= 0; i--, nodes = nodes * K + 1) {
        if (i)
            memset(w->grad[i], 0, sizeof(float) * (size_t)((nodes * K + 1) * D));
        const float *transposed = w->transposed + i * in * D;
        for (int64_t n = 0; n < nodes; n++) {
            const float *out = w->level[i + 1] + n * D, *g = w->grad[i + 1] + n * D, *x = w->input[i] + n * in;
            float z[D];
            for (int j = 0; j < D; j++)
                z[j] = i == h - 1 ? g[j] * (1 - out[j] * out[j]) : out[j] > 0 ? g[j] : 0;
            const row dz = load(z);
            for (int r = 0; r < in; r++)
                add_to(matrix_grad + (i * in + r) * D, dz, x[r]);
            add_to(bias_grad + i * D, dz, 1);
            const row own = plus_product(zero(), z, transposed, D);
            const row near = m->aggregator == CONCAT ? plus_product(zero(), z, transposed + D * D, D) : own;
            for (int c = 0; c < K; c++) {
                const int64_t child = n * K + 1 + c;
                w->alpha_grad[n * K + c] += dot(near, load(vector(m, w, i, child)));
                if (i)
                    add_to(w->grad[i] + child * D, near, slot->alpha[n * K + c]);
            }
            if (i == 0) {
                store(slot->own + n * D, own);
                store(slot->near + n * D, near);
            } else if (m->aggregator != NEIGHBOR) {
                add_to(w->grad[i] + n * D, own, 1);
            }
        }
    }
}

/* The item's vector for this user into w->level[H]: Algorithm 1 for one pair. Returns the user's vector. */
INLINE row represent(const Model *m, Slot *slot, Work *w, int64_t user, int64_t item, int64_t inner)
{
    const row u = load(m->table[USER] + user * D);
    slot->user = (int32_t)user;
    store(slot->vector, u);
    w->entity[0] = (int32_t)m->item_entity[item];
    for (int64_t n = 0; n < inner; n++)
        memcpy(w->entity + n * K + 1, m->near_entity + w->entity[n] * (int64_t)K, sizeof(int32_t) * K);
    memcpy(slot->entity, w->entity, sizeof(int32_t) * (size_t)inner);
    weigh(m, u, slot, w, inner);
    forward(m, slot, w, inner);
    return u;
}

/* Forward and backward for one pair; `share` is 1 / batch. Returns its share of the loss. */
static float example(const Model *m, const Training *t, Slot *slot, Work *w, float *matrix_grad, int64_t user,
                     int64_t item, float y, float share)
{
    const int64_t inner = nodes_to(m->hops - 1);
    const row u = represent(m, slot, w, user, item, inner);

    float slope;
    const row v = load(w->level[m->hops]);
    float loss = share * cross_entropy(dot(u, v), y, &slope); /* Eq. 7 */
    row user_grad = times(v, slope * share);
    store(w->grad[m->hops], times(u, slope * share));
    memset(w->alpha_grad, 0, sizeof(float) * (size_t)(inner * K));
    if (t->label_key)
        loss += label_term(m, t, slot, w, y, share * (float)t->ls_weight);
    backward(m, slot, w, matrix_grad);

    if (m->aggregator != AVG) {
        const float scale = m->authors ? 1.0f / (float)(D * K) : 1.0f;
        for (int64_t n = 0; n < inner; n++) { /* back through Eq. 3 and 1 */
            const int32_t e = w->entity[n];
            const float *weight = w->weight + n * K, *g = w->alpha_grad + n * K;
            const float mean = total(weight, g), factor = scale * m->linked[e];
            for (int c = 0; c < K; c++) {
                const float s = factor * weight[c] * (g[c] - mean);
                slot->score[n * K + c] = s;
                const int64_t r = m->near_relation[e * (int64_t)K + c];
                user_grad = plus(user_grad, load(m->table[RELATION] + r * D), s);
            }
        }
    }
    store(slot->user_grad, user_grad);
    return loss;
}

/* --- A step ------------------------------------------------------------------------------------------------------- */

/* Gradients of the three tables; a row that no example touched is neither read nor cleared. */
typedef struct {
    float *grad[3];
    uint8_t *touched[3];
} Sparse;

INLINE void touch(Sparse *s, int table, int64_t at, const float *g, float by)
{
    s->touched[table][at] = 1;
    add_to(s->grad[table] + at * D, load(g), by);
}

/* Adds the gradients of `count` slots to the rows that thread `me` of `threads` owns. */
static void scatter(const Model *m, Sparse *s, const Slot *slots, int64_t count, int64_t inner, int64_t me,
                    int64_t threads)
{
    int64_t low[3], high[3];
    const int64_t rows[3] = {m->users, m->entities, m->relations};
    for (int i = 0; i < 3; i++) {
        low[i] = rows[i] * me / threads;
        high[i] = rows[i] * (me + 1) / threads;
    }
    for (int64_t b = 0; b < count; b++) {
        const Slot *slot = slots + b;
        if (slot->user >= low[USER] && slot->user < high[USER])
            touch(s, USER, slot->user, slot->user_grad, 1);
        for (int64_t n = 0; n < inner; n++) {
            const int64_t e = slot->entity[n];
            if (m->aggregator != NEIGHBOR && e >= low[ENTITY] && e < high[ENTITY])
                touch(s, ENTITY, e, slot->own + n * D, 1);
            for (int64_t c = 0; c < K; c++) {
                const int64_t to = m->near_entity[e * K + c], r = m->near_relation[e * K + c];
                if (to >= low[ENTITY] && to < high[ENTITY])
                    touch(s, ENTITY, to, slot->near + n * D, slot->alpha[n * K + c]);
                if (m->aggregator != AVG && r >= low[RELATION] && r < high[RELATION])
                    touch(s, RELATION, r, slot->vector, slot->score[n * K + c]);
            }
        }
    }
}

/* Adam as torch.optim.Adam computes it, on n numbers whose gradient is g (or 0 if NULL) plus l2 times themselves.
 * Returns the sum of their squares before the step. */
INLINE float adam(float *restrict p, float *restrict mean, float *restrict square, const float *restrict g, int64_t n,
                  float l2, float beta1, float beta2, float rate, float root, float epsilon)
{
    float norm = 0;
    for (int64_t j = 0; j < n; j++) {
        const float now = p[j], grad = (g ? g[j] : 0) + l2 * now;
        const float a = mean[j] + (grad - mean[j]) * (1 - beta1);
        const float b = square[j] * beta2 + (1 - beta2) * grad * grad;
        norm += now * now;
        mean[j] = a;
        square[j] = b;
        p[j] = now - rate * a / (sqrtf(b) * root + epsilon);
    }
    return norm;
}

/* Steps the rows of tables and the numbers of weights that thread `me` owns. Returns their part of the L2 loss. */
static double update(const Model *m, const Training *t, Sparse *s, const float *partial, int64_t blocks, int64_t step,
                     int64_t me, int64_t threads, float *restrict sum)
{
    const float beta1 = (float)t->beta1, beta2 = (float)t->beta2, epsilon = (float)t->epsilon, l2 = (float)t->l2;
    const float rate = (float)(t->rate / (1 - pow(t->beta1, (double)step)));
    const float root = (float)(1 / sqrt(1 - pow(t->beta2, (double)step)));
    const int64_t rows[3] = {m->users, m->entities, m->relations};
    double norm = 0;
    for (int i = 0; i < 3; i++) {
        const int64_t low = rows[i] * me / threads, high = rows[i] * (me + 1) / threads;
        float *p = m->table[i], *mean = t->mean[i], *square = t->square[i];
        for (int64_t r = low; r < high; r++) {
            const int64_t at = r * D;
            if (s->touched[i][r]) {
                float *g = s->grad[i] + at;
                norm += adam(p + at, mean + at, square + at, g, D, l2, beta1, beta2, rate, root, epsilon);
                memset(g, 0, sizeof(float) * (size_t)D);
                s->touched[i][r] = 0;
            } else {
                norm += adam(p + at, mean + at, square + at, NULL, D, l2, beta1, beta2, rate, root, epsilon);
            }
        }
    }
    const int64_t in = inputs_of(m), sizes[2] = {m->hops * in * D, m->hops * D}, stride = sizes[0] + sizes[1];
    for (int i = 0, offset = 0; i < 2; offset = (int)sizes[0], i++) {
        const int64_t low = sizes[i] * me / threads, n = sizes[i] * (me + 1) / threads - low;
        memset(sum, 0, sizeof(float) * (size_t)n);
        for (int64_t b = 0; b < blocks; b++)
            for (int64_t j = 0; j < n; j++)
                sum[j] += partial[b * stride + offset + low + j];
        const int table = WEIGHT + i;
        const float squares = adam(m->table[table] + low, t->mean[table] + low, t->square[table] + low, sum, n,
                                   i == 0 ? l2 : 0, beta1, beta2, rate, root, epsilon);
        norm += i == 0 ? squares : 0;
    }
    return 0.5 * t->l2 * norm;
}

/* Memory in one piece, 64-byte aligned parts; `take` with base NULL only measures. */
typedef struct {
    char *base;
    size_t used;
} Arena;

static void *take(Arena *a, int64_t bytes)
{
    void *at = a->base ? a->base + a->used : NULL;
    a->used += ((size_t)bytes + 63) & ~(size_t)63;
    return at;
}

static void lay_slots(Arena *a, Slot *slots, int64_t count, int64_t inner)
{
    const int64_t f = sizeof(float);
    for (int64_t b = 0; b < count; b++)
        slots[b] = (Slot){.entity = take(a, inner * 4),
                          .alpha = take(a, inner * K * f),
                          .score = take(a, inner * K * f),
                          .vector = take(a, D * f),
                          .user_grad = take(a, D * f),
                          .own = take(a, inner * D * f),
                          .near = take(a, inner * D * f)};
}

static Work lay_work(const Model *m, Arena *a)
{
    const int64_t f = sizeof(float), h = m->hops, in = inputs_of(m);
    const int64_t inner = nodes_to(h - 1), all = nodes_to(h);
    Work w = {.entity = take(a, all * 4),
              .weight = take(a, inner * K * f),
              .alpha_grad = take(a, inner * K * f),
              .level = take(a, (h + 1) * (int64_t)sizeof(float *)),
              .input = take(a, h * (int64_t)sizeof(float *)),
              .grad = take(a, (h + 1) * (int64_t)sizeof(float *)),
              .transposed = take(a, h * in * D * f),
              .label = take(a, all * f),
              .label_grad = take(a, all * f),
              .fixed = take(a, inner)};
    for (int64_t i = 0; i <= h; i++) {
        float *level = i ? take(a, nodes_to(h - i) * D * f) : NULL;
        float *grad = i ? take(a, nodes_to(h - i) * D * f) : NULL;
        float *input = i < h ? take(a, nodes_to(h - 1 - i) * in * f) : NULL;
        if (!a->base)
            continue;
        w.level[i] = level;
        w.grad[i] = grad;
        if (i < h)
            w.input[i] = input;
    }
    return w;
}

static void transpose(const Model *m, Work *w)
{
    for (int64_t square = 0; square < m->hops * inputs_of(m) / D; square++)
        for (int i = 0; i < D; i++)
            for (int j = 0; j < D; j++)
                w->transposed[(square * D + j) * D + i] = m->table[WEIGHT][(square * D + i) * D + j];
}

typedef struct {
    const int64_t *user, *item;
    const float *label;
    const int64_t *order;
    int64_t count, batch, chunk, blocks;
    Slot *slots;
    Work *work;       /* by thread */
    float *partial;   /* [blocks, matrices and biases] */
    float **sum;      /* by thread */
    double *loss;     /* [blocks + threads] */
    Sparse sparse;
} Epoch;

/* A thread's part of all batches; barriers are those of the parallel region around the call. */
static void run_batches(const Model *m, const Training *t, Epoch *e, int64_t me, int64_t threads)
{
    const int64_t inner = nodes_to(m->hops - 1), matrices = m->hops * (inputs_of(m) + 1) * D;
    Work *w = e->work + me;
    int64_t step = t->taken;
    for (int64_t at = 0; at < e->count; at += e->batch) {
        const int64_t size = e->count - at < e->batch ? e->count - at : e->batch;
        const float share = 1.0f / (float)size;
        transpose(m, w);
        for (int64_t from = 0; from < size; from += e->chunk) {
            const int64_t n = size - from < e->chunk ? size - from : e->chunk;
            const int64_t blocks = (n + BLOCK - 1) / BLOCK;
            for (int64_t b = blocks * me / threads; b < blocks * (me + 1) / threads; b++) {
                float *partial = e->partial + b * matrices;
                if (from == 0)
                    memset(partial, 0, sizeof(float) * (size_t)matrices);
                const int64_t end = (b + 1) * BLOCK < n ? (b + 1) * BLOCK : n;
                for (int64_t j = b * BLOCK; j < end; j++) {
                    const int64_t row = e->order[at + from + j];
                    e->loss[b] += example(m, t, e->slots + j, w, partial, e->user[row], e->item[row], e->label[row],
                                          share);
                }
            }
#pragma omp barrier
            scatter(m, &e->sparse, e->slots, n, inner, me, threads);
            if (from + e->chunk < size) {
#pragma omp barrier
            }
        }
        const int64_t used = size < e->chunk ? size : e->chunk;
        e->loss[e->blocks + me] += update(m, t, &e->sparse, e->partial, (used + BLOCK - 1) / BLOCK, ++step, me,
                                          threads, e->sum[me]);
#pragma omp barrier
    }
}

static int lay_epoch(const Model *m, Arena *a, Epoch *e)
{
    const int64_t f = sizeof(float), inner = nodes_to(m->hops - 1);
    const int64_t matrices = m->hops * (inputs_of(m) + 1) * D, rows[3] = {m->users, m->entities, m->relations};
    e->slots = take(a, e->chunk * (int64_t)sizeof(Slot));
    e->work = take(a, m->threads * (int64_t)sizeof(Work));
    e->sum = take(a, m->threads * (int64_t)sizeof(float *));
    e->loss = take(a, (e->blocks + m->threads) * (int64_t)sizeof(double));
    e->partial = take(a, e->blocks * matrices * f);
    for (int i = 0; i < 3; i++) {
        e->sparse.grad[i] = take(a, rows[i] * D * f);
        e->sparse.touched[i] = take(a, rows[i]);
    }
    if (a->base)
        lay_slots(a, e->slots, e->chunk, inner);
    for (int64_t i = 0; i < m->threads; i++) {
        const Work w = lay_work(m, a);
        float *sum = take(a, matrices * f);
        if (a->base) {
            e->work[i] = w;
            e->sum[i] = sum;
        }
    }
    return 0;
}

/* Trains on rows order[0 ... count - 1] of the pairs in batches, in place. Returns the mean loss over the batches, or
 * NaN when memory is short. */
double kgkit_kg_conv_train(const Model *m, const Training *t, const int64_t *user, const int64_t *item,
                           const float *label, const int64_t *order, int64_t count, int64_t batch)
{
    const int64_t inner = nodes_to(m->hops - 1), f = sizeof(float);
    const int64_t slot_bytes = (inner * (1 + 2 * K + 2 * D) + 2 * D) * f + 7 * 64;
    Epoch e = {.user = user, .item = item, .label = label, .order = order, .count = count, .batch = batch};
    e.chunk = SLOT_BYTES / slot_bytes / BLOCK * BLOCK;
    e.chunk = e.chunk > CHUNK ? CHUNK : e.chunk;
    e.chunk = e.chunk > batch ? batch : e.chunk;
    e.chunk = e.chunk < BLOCK ? BLOCK : e.chunk;
    e.blocks = (e.chunk + BLOCK - 1) / BLOCK;
    Arena measure = {NULL, 0};
    lay_epoch(m, &measure, &e);
    void *memory = NULL;
    Arena arena = {NULL, 0};
    const size_t size = measure.used + (size_t)(e.chunk * (slot_bytes + 64)) + 64;
    if (posix_memalign(&memory, 64, size))
        return NAN;
    memset(memory, 0, size);
    arena.base = memory;
    lay_epoch(m, &arena, &e);
#pragma omp parallel num_threads((int)m->threads)
    {
        const int64_t me = omp_get_thread_num(), threads = omp_get_num_threads();
        run_batches(m, t, &e, me, threads);
    }
    double loss = 0;
    for (int64_t i = 0; i < e.blocks + m->threads; i++)
        loss += e.loss[i];
    free(memory);
    return loss / (double)((count + batch - 1) / batch);
}

/* --- Scores of pairs ---------------------------------------------------------------------------------------------- */

/* Eq. 7 of `count` pairs into out [count]. Returns 0, or 1 when memory is short. */
int32_t kgkit_kg_conv_pairs(const Model *m, const int64_t *user, const int64_t *item, int64_t count, float *out)
{
    const int64_t inner = nodes_to(m->hops - 1);
    Arena measure = {NULL, 0};
    Slot unused;
    lay_slots(&measure, &unused, 1, inner);
    (void)lay_work(m, &measure);
    const size_t each = measure.used;
    void *memory = NULL;
    if (posix_memalign(&memory, 64, each * (size_t)m->threads))
        return 1;
#pragma omp parallel num_threads((int)m->threads)
    {
        Arena arena = {(char *)memory + each * (size_t)omp_get_thread_num(), 0};
        Slot slot;
        lay_slots(&arena, &slot, 1, inner);
        Work w = lay_work(m, &arena);
#pragma omp for schedule(static)
        for (int64_t b = 0; b < count; b++) {
            const row u = represent(m, &slot, &w, user[b], item[b], inner);
            out[b] = dot(u, load(w.level[m->hops]));
        }
    }
    free(memory);
    return 0;
}

/* --- Scores of all items ------------------------------------------------------------------------------------------ */

typedef struct {
    const float *own, *near; /* [entities, d] entities times the halves of the first matrix; own NULL for NEIGHBOR */
    float *relation;         /* [relations] e^score, largest 1 */
    float *level[2];         /* [entities, d] representations for this user, if hops > 1 */
} Scoring;

/* Coefficients of e's neighbours in Eq. 2, from the user's exponentials: alpha [K] */
INLINE void mix(const Model *m, row u, const Scoring *s, int64_t e, float *alpha)
{
    float sum = 0;
    for (int c = 0; c < K; c++)
        alpha[c] = s->relation[m->near_relation[e * K + c]];
    for (int c = 0; c < K; c++)
        sum += alpha[c];
    if (sum < 1e-30f) { /* all of e's relations are far below the user's best one: start from the best of these */
        relation_scores(m, u, e, alpha);
        sum = exponentials(alpha);
    }
    const float share = m->linked[e] / sum / (m->authors && m->aggregator != AVG ? (float)K : 1.0f);
    for (int c = 0; c < K; c++)
        alpha[c] *= share;
}

static void score_user(const Model *m, Scoring *s, int64_t user, const int64_t *needed, const int64_t *needed_start,
                       float *out)
{
    const int64_t h = m->hops, in = inputs_of(m);
    const row u = load(m->table[USER] + user * D);
    const float scale = m->authors ? 1.0f / (float)D : 1.0f;
    float top = -INFINITY, input[2 * D], alpha[K], z[D];
    for (int64_t r = 0; r < m->relations; r++) { /* Eq. 1 */
        s->relation[r] = m->aggregator == AVG ? 0 : scale * dot(u, load(m->table[RELATION] + r * D));
        top = s->relation[r] > top ? s->relation[r] : top;
    }
    for (int64_t r = 0; r < m->relations; r++)
        s->relation[r] = exp_(s->relation[r] - top);
    for (int64_t i = 0; i < h; i++) {
        const int64_t from = needed_start[i], count = needed_start[i + 1] - from;
        const float *below = i ? s->level[(i - 1) & 1] : s->near;
        for (int64_t j = 0; j < count; j++) {
            const int64_t e = needed[from + j];
            const int32_t *to = m->near_entity + e * K;
            row near = zero(), sum = load(m->table[BIAS] + i * D);
            mix(m, u, s, e, alpha);
            for (int c = 0; c < K; c++)
                near = plus(near, load(below + to[c] * (int64_t)D), alpha[c]);
            if (i == 0) { /* the matrix is already in own and near */
                sum = plus(sum, near, 1);
                if (s->own)
                    sum = plus(sum, load(s->own + e * D), 1);
            } else if (m->aggregator == CONCAT) {
                store(input, load(below + e * D));
                store(input + D, near);
                sum = plus_product(sum, input, m->table[WEIGHT] + i * in * D, (int)in);
            } else {
                store(input, m->aggregator == NEIGHBOR ? near : plus(near, load(below + e * D), 1));
                sum = plus_product(sum, input, m->table[WEIGHT] + i * in * D, (int)in);
            }
            store(z, sum);
            activate(z, i == h - 1);
            if (i == h - 1)
                out[j] = dot(u, load(z));
            else
                store(s->level[i & 1] + e * D, load(z));
        }
    }
}

/* A thread's part of all users; the loops are shared by the parallel region around the call. */
static void score_users(const Model *m, Scoring *s, float *own, float *near, const int64_t *users, int64_t count,
                        const int64_t *needed, const int64_t *needed_start, float *out)
{
    const float *matrix = m->table[WEIGHT];
#pragma omp for schedule(static)
    for (int64_t e = 0; e < m->entities; e++) {
        const float *v = m->table[ENTITY] + e * D;
        store(near + e * D, plus_product(zero(), v, m->aggregator == CONCAT ? matrix + D * D : matrix, D));
        if (m->aggregator == CONCAT)
            store(own + e * D, plus_product(zero(), v, matrix, D));
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t b = 0; b < count; b++)
        score_user(m, s, users[b], needed, needed_start, out + b * m->items);
}

static Scoring lay_scoring(const Model *m, Arena *a)
{
    const int64_t f = sizeof(float), level = m->hops > 1 ? m->entities * D * f : 0;
    return (Scoring){.relation = take(a, m->relations * f),
                     .level = {take(a, level), take(a, m->hops > 2 ? level : 0)}};
}

/* Eq. 7 of every item for `count` users into out [count, items]. needed[needed_start[i] ... needed_start[i + 1]] are the
 * entities whose order-(i + 1) representation is needed; the last are the items' own. Returns 0, or 1 when memory is
 * short. */
int32_t kgkit_kg_conv_score(const Model *m, const int64_t *users, int64_t count, const int64_t *needed,
                            const int64_t *needed_start, float *out)
{
    const int64_t f = sizeof(float), table = m->entities * D * f;
    Scoring *scoring = malloc(sizeof(Scoring) * (size_t)m->threads);
    Arena measure = {NULL, 0};
    (void)lay_scoring(m, &measure);
    void *memory = NULL;
    if (!scoring || posix_memalign(&memory, 64, 2 * ((size_t)table + 64) + measure.used * (size_t)m->threads)) {
        free(scoring);
        return 1;
    }
    Arena arena = {memory, 0};
    float *near = take(&arena, table), *own = take(&arena, table);
    for (int64_t i = 0; i < m->threads; i++) {
        scoring[i] = lay_scoring(m, &arena);
        scoring[i].near = near;
        scoring[i].own = m->aggregator == NEIGHBOR ? NULL : m->aggregator == CONCAT ? own : near;
    }
#pragma omp parallel num_threads((int)m->threads)
    {
        Scoring *s = scoring + omp_get_thread_num();
        score_users(m, s, own, near, users, count, needed, needed_start, out);
    }
    free(memory);
    free(scoring);
    return 0;
}
