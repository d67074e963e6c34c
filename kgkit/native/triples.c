/* Scores and gradients of facts with their own corruptions, for the models of kgkit/nn/interactions.py.
 *
 * A fact has S = 2 + K slots of entities: the one that its query is made of, the one that answers it, and K that answer
 * it wrongly. Scoring keeps the queries. The gradients go two ways: first each fact has the gradient of its query, then
 * every row that the batch touches collects what its slots owe it, in the order of the slots; a row with many slots is
 * cut into pieces of fixed size whose sums are added in order. So no result depends on the number of threads, and
 * nothing is as long as a table.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

/* The library is built for one size of vectors. Complex vectors: H real parts, then H imaginary ones. */
#ifndef D
#define D 100
#endif
#define H (D / 2)
#define PIECE 64     /* most slots that are summed in one go */
#define DIGIT 11     /* bits of a radix */
#define TINY 1e-30f  /* as in kgkit/nn/similarity.py */
#define INLINE static inline __attribute__((always_inline))

enum { TRANSE_L1, TRANSE_L2, DISTMULT, COMPLEX, ROTATE };

typedef struct {
    int64_t kind, facts, slots, threads;
    const float *entity;       /* [N, D] */
    const float *relation;     /* [V, D] those of the batch */
    const int64_t *slot;       /* [facts, S] rows of entity */
    const int32_t *relation_at; /* [facts] rows of relation */
    const uint8_t *asks_head;  /* [facts] */
    float *query;              /* [facts, D] */
    float *score;              /* [facts, S - 1] */
} Batch;

/* The slots of each row, in order: those of row u are order[start[u]] ... order[start[u + 1] - 1]. */
typedef struct {
    int64_t rows;
    const int64_t *row;   /* [rows] */
    const int32_t *start; /* [rows + 1] */
    const int32_t *order;
    int32_t *piece;       /* [rows + 1] scratch: where a row's pieces begin */
    int32_t *piece_row;   /* [pieces] scratch */
    int32_t *piece_first; /* [pieces] scratch: where in the order a piece begins */
    float *partial;       /* [pieces of rows that have several, D] scratch */
    float *gradient;      /* [rows, D] result */
} Groups;

/* Runs `call`, which uses `kind`, with a constant, so that each model has loops of its own. */
#define FOR_KIND(which, call)                            \
    switch (which) {                                     \
    case TRANSE_L1: { enum { kind = TRANSE_L1 }; call; break; } \
    case TRANSE_L2: { enum { kind = TRANSE_L2 }; call; break; } \
    case DISTMULT: { enum { kind = DISTMULT }; call; break; }   \
    case COMPLEX: { enum { kind = COMPLEX }; call; break; }     \
    default: { enum { kind = ROTATE }; call; break; }           \
    }

/* Asks for a vector that is needed soon. */
INLINE void fetch(const float *p)
{
    for (int i = 0; i < (D < 512 ? D : 512); i += 16)
        __builtin_prefetch(p + i);
}

/* --- The models' equations -------------------------------------------------------------------------------------- */

/* The query of an entity x and a relation r; sign -1 asks for the head. */
INLINE void make_query(int kind, float sign, const float *restrict x, const float *restrict r, float *restrict q)
{
    if (kind == TRANSE_L1 || kind == TRANSE_L2)
        for (int i = 0; i < D; i++)
            q[i] = x[i] + sign * r[i];
    else if (kind == DISTMULT)
        for (int i = 0; i < D; i++)
            q[i] = x[i] * r[i];
    else
        for (int i = 0; i < H; i++) {
            const float imaginary = sign * r[H + i];
            q[i] = x[i] * r[i] - x[H + i] * imaginary;
            q[H + i] = x[i] * imaginary + x[H + i] * r[i];
        }
}

/* Adds to gx what the query's gradient g means for x. */
INLINE void add_entity(int kind, float sign, const float *restrict r, const float *restrict g, float *restrict gx)
{
    if (kind == TRANSE_L1 || kind == TRANSE_L2)
        for (int i = 0; i < D; i++)
            gx[i] += g[i];
    else if (kind == DISTMULT)
        for (int i = 0; i < D; i++)
            gx[i] += g[i] * r[i];
    else
        for (int i = 0; i < H; i++) {
            const float imaginary = sign * r[H + i];
            gx[i] += g[i] * r[i] + g[H + i] * imaginary;
            gx[H + i] += g[H + i] * r[i] - g[i] * imaginary;
        }
}

/* Adds to gr what it means for r. */
INLINE void add_relation(int kind, float sign, const float *restrict x, const float *restrict g, float *restrict gr)
{
    if (kind == TRANSE_L1 || kind == TRANSE_L2)
        for (int i = 0; i < D; i++)
            gr[i] += sign * g[i];
    else if (kind == DISTMULT)
        for (int i = 0; i < D; i++)
            gr[i] += g[i] * x[i];
    else
        for (int i = 0; i < H; i++) {
            gr[i] += g[i] * x[i] + g[H + i] * x[H + i];
            gr[H + i] += sign * (g[H + i] * x[i] - g[i] * x[H + i]);
        }
}

INLINE float similarity(int kind, const float *restrict q, const float *restrict e)
{
    float s = 0;
    if (kind == TRANSE_L1) {
        for (int i = 0; i < D; i++)
            s += fabsf(q[i] - e[i]);
    } else if (kind == TRANSE_L2) {
        for (int i = 0; i < D; i++)
            s += (q[i] - e[i]) * (q[i] - e[i]);
        s = sqrtf(s + TINY);
    } else if (kind == ROTATE) {
        for (int i = 0; i < H; i++) {
            const float real = q[i] - e[i], imaginary = q[H + i] - e[H + i];
            s += sqrtf(real * real + imaginary * imaginary + TINY);
        }
    } else {
        for (int i = 0; i < D; i++)
            s += q[i] * e[i];
        return s;
    }
    return -s;
}

/* Adds to gx the gradient c of the similarity of x and y, with respect to x: similarities are symmetric. Under L2, c is
 * divided by the similarity. */
INLINE void add_similarity(int kind, float c, const float *restrict x, const float *restrict y, float *restrict gx)
{
    if (kind == TRANSE_L1)
        for (int i = 0; i < D; i++)
            gx[i] += x[i] > y[i] ? -c : x[i] < y[i] ? c : 0;
    else if (kind == TRANSE_L2)
        for (int i = 0; i < D; i++)
            gx[i] += c * (x[i] - y[i]);
    else if (kind == ROTATE)
        for (int i = 0; i < H; i++) {
            const float real = x[i] - y[i], imaginary = x[H + i] - y[H + i];
            const float by = c / sqrtf(real * real + imaginary * imaginary + TINY);
            gx[i] -= by * real;
            gx[H + i] -= by * imaginary;
        }
    else
        for (int i = 0; i < D; i++)
            gx[i] += c * y[i];
}

/* --- Groups ----------------------------------------------------------------------------------------------------- */

/* Sorts n keys, all in 0 ... limit - 1 (checked), stably: order [n], the distinct keys, and their starts [n + 1]. at, or
 * NULL: which of the distinct keys each was. scratch: int32 [3 n]. Returns how many are distinct, -1 if out of range. */
int64_t kgkit_triples_group(const int64_t *keys, int64_t n, int64_t limit, int32_t *order, int64_t *distinct,
                            int32_t *start, int32_t *at, int32_t *scratch)
{
    int32_t *key = scratch, *other_key = scratch + n, *other = scratch + 2 * n, *from = order;
    int bits = 0, flipped = 0;
    for (int64_t i = 0; i < n; i++) {
        if (keys[i] < 0 || keys[i] >= limit)
            return -1;
        key[i] = (int32_t)keys[i];
        from[i] = (int32_t)i;
    }
    while ((limit - 1) >> bits)
        bits += DIGIT;
    for (int shift = 0; shift < bits; shift += DIGIT, flipped = !flipped) {
        int32_t count[(1 << DIGIT) + 1] = {0};
        for (int64_t i = 0; i < n; i++)
            count[(key[i] >> shift & ((1 << DIGIT) - 1)) + 1]++;
        for (int i = 0; i < 1 << DIGIT; i++)
            count[i + 1] += count[i];
        for (int64_t i = 0; i < n; i++) {
            const int32_t to = count[key[i] >> shift & ((1 << DIGIT) - 1)]++;
            other_key[to] = key[i];
            other[to] = from[i];
        }
        int32_t *swap = key;
        key = other_key, other_key = swap;
        swap = from;
        from = other, other = swap;
    }
    if (flipped)
        memcpy(order, from, n * sizeof *order);
    int64_t rows = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!i || key[i] != key[i - 1]) {
            start[rows] = (int32_t)i;
            distinct[rows++] = key[i];
        }
        if (at)
            at[order[i]] = (int32_t)rows - 1;
    }
    start[rows] = (int32_t)n;
    return rows;
}

/* What slots first ... last - 1 of the order owe to row u of the entities. */
INLINE void entity_piece(const Batch *b, const float *weight, const float *query_gradient, const Groups *g, int kind,
                         int64_t u, int64_t first, int64_t last, int64_t all, float *restrict sum)
{
    const uint32_t slots = (uint32_t)b->slots;
    const float *e = b->entity + g->row[u] * D;
    memset(sum, 0, D * sizeof *sum);
    for (int64_t i = first; i < last; i++) {
        if (i + 4 < all) {
            const uint32_t ahead = (uint32_t)g->order[i + 4], fact = ahead / slots;
            fetch((ahead == fact * slots ? query_gradient : b->query) + (int64_t)fact * D);
        }
        const uint32_t at = (uint32_t)g->order[i], fact = at / slots, slot = at - fact * slots;
        if (slot == 0)
            add_entity(kind, b->asks_head[fact] ? -1.0f : 1.0f, b->relation + b->relation_at[fact] * (int64_t)D,
                       query_gradient + (int64_t)fact * D, sum);
        else if (weight[(int64_t)fact * (slots - 1) + slot - 1] != 0)
            add_similarity(kind, weight[(int64_t)fact * (slots - 1) + slot - 1], e, b->query + (int64_t)fact * D, sum);
    }
}

/* The same of a relation: its slots are facts. */
INLINE void relation_piece(const Batch *b, const float *query_gradient, const Groups *g, int kind, int64_t first,
                           int64_t last, int64_t all, float *restrict sum)
{
    memset(sum, 0, D * sizeof *sum);
    for (int64_t i = first; i < last; i++) {
        if (i + 4 < all) {
            const int64_t ahead = g->order[i + 4];
            fetch(query_gradient + ahead * D);
            if (kind != TRANSE_L1 && kind != TRANSE_L2)
                fetch(b->entity + b->slot[ahead * b->slots] * D);
        }
        const int64_t fact = g->order[i];
        add_relation(kind, b->asks_head[fact] ? -1.0f : 1.0f, b->entity + b->slot[fact * b->slots] * D,
                     query_gradient + fact * D, sum);
    }
}

INLINE void collect(const Batch *b, const float *weight, const float *query_gradient, const Groups *g, int kind,
                    int relations)
{
    const int64_t all = g->start[g->rows];
    int64_t pieces = 0, partials = 0;
    for (int64_t u = 0; u < g->rows; u++) {
        const int64_t own = (g->start[u + 1] - g->start[u] + PIECE - 1) / PIECE;
        g->piece[u] = (int32_t)(own > 1 ? partials : -1);
        partials += own > 1 ? own : 0;
        for (int64_t i = 0; i < own; i++) {
            g->piece_first[pieces] = (int32_t)(g->start[u] + i * PIECE);
            g->piece_row[pieces++] = (int32_t)u;
        }
    }
#pragma omp parallel num_threads(b->threads)
    {
#pragma omp for schedule(dynamic, 64)
        for (int64_t p = 0; p < pieces; p++) {
            const int64_t u = g->piece_row[p], first = g->piece_first[p], nth = (first - g->start[u]) / PIECE;
            const int64_t last = first + PIECE < g->start[u + 1] ? first + PIECE : g->start[u + 1];
            float *sum = g->piece[u] < 0 ? g->gradient + u * D : g->partial + (g->piece[u] + nth) * (int64_t)D;
            if (relations)
                relation_piece(b, query_gradient, g, kind, first, last, all, sum);
            else
                entity_piece(b, weight, query_gradient, g, kind, u, first, last, all, sum);
        }
#pragma omp for schedule(dynamic, 64)
        for (int64_t u = 0; u < g->rows; u++) {
            if (g->piece[u] < 0)
                continue;
            const int64_t own = (g->start[u + 1] - g->start[u] + PIECE - 1) / PIECE;
            const float *partial = g->partial + g->piece[u] * (int64_t)D;
            float *restrict sum = g->gradient + u * D;
            memcpy(sum, partial, D * sizeof *sum);
            for (int64_t i = 1; i < own; i++)
                for (int k = 0; k < D; k++)
                    sum[k] += partial[i * D + k];
        }
    }
}

/* --- What the caller sees --------------------------------------------------------------------------------------- */

INLINE void score(const Batch *b, int kind)
{
    const int64_t slots = b->slots, all = b->facts * slots;
#pragma omp parallel for schedule(dynamic, 64) num_threads(b->threads)
    for (int64_t f = 0; f < b->facts; f++) {
        const int64_t *slot = b->slot + f * slots;
        for (int64_t s = 2 * slots; s < 3 * slots && f * slots + s < all; s++)
            fetch(b->entity + slot[s] * D);
        float *q = b->query + f * D;
        make_query(kind, b->asks_head[f] ? -1.0f : 1.0f, b->entity + slot[0] * D,
                   b->relation + b->relation_at[f] * (int64_t)D, q);
        for (int64_t s = 1; s < slots; s++)
            b->score[f * (slots - 1) + s - 1] = similarity(kind, q, b->entity + slot[s] * D);
    }
}

/* Fills query and score. */
void kgkit_triples_score(const Batch *b) { FOR_KIND(b->kind, score(b, kind)) }

INLINE void query_gradients(const Batch *b, float *weight, float *query_gradient, int kind)
{
    const int64_t slots = b->slots, all = b->facts * slots;
#pragma omp parallel for schedule(dynamic, 64) num_threads(b->threads)
    for (int64_t f = 0; f < b->facts; f++) {
        const int64_t *slot = b->slot + f * slots;
        for (int64_t s = 2 * slots + 1; s < 3 * slots && f * slots + s < all; s++)
            fetch(b->entity + slot[s] * D);
        float *restrict g = query_gradient + f * D;
        memset(g, 0, D * sizeof *g);
        for (int64_t s = 1; s < slots; s++) {
            float *w = weight + f * (slots - 1) + s - 1;
            if (kind == TRANSE_L2)
                *w /= b->score[f * (slots - 1) + s - 1];
            if (*w != 0) /* a margin that is kept leaves no gradient; NaN goes on */
                add_similarity(kind, *w, b->query + f * D, b->entity + slot[s] * D, g);
        }
    }
}

/* weight [facts, S - 1]: the scores' gradients, changed here. query_gradient [facts, D]: scratch. */
void kgkit_triples_gradients(const Batch *b, float *weight, float *query_gradient, const Groups *entities,
                             const Groups *relations)
{
    FOR_KIND(b->kind, query_gradients(b, weight, query_gradient, kind))
    FOR_KIND(b->kind, collect(b, weight, query_gradient, entities, kind, 0))
    FOR_KIND(b->kind, collect(b, weight, query_gradient, relations, kind, 1))
}
