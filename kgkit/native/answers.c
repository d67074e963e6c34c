/* How many candidates answer a query better than, or as well as, its true answer.

   Candidates go through in tiles that stay in the second-level cache, transposed so that a vector holds one coordinate
   of W candidates. A score is then summed over the coordinates in their order by one instruction sequence, whatever
   its neighbours are: equal vectors have equal scores, and the true answer ties with its own column exactly. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { DOT, L1, L2, L2_SQUARED, MODULUS }; /* kgkit.nn.similarity.SIMILARITIES */

/* A block of scores, Q queries by V vectors of W candidates, that the registers hold. */
#if defined(__AVX512F__)
enum { W = 16, Q = 8, V = 3 };
#elif defined(__AVX__)
enum { W = 8, Q = 4, V = 2 };
#else
enum { W = 4, Q = 4, V = 2 };
#endif
enum { PANEL = W * V, MOST_PANELS = 16, TILE_BYTES = 448 << 10 };
typedef float part __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(4 * W), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline))

typedef struct {
    int64_t similarity, dim, queries, candidates;
    const float *query; /* [queries / Q, dim, Q] */
    const float *table; /* [candidates, dim] */
    const float *bias;  /* [candidates], or null */
} Problem;

INLINE part magnitude(part x)
{
    return (part)((bits)x & 0x7fffffff);
}

INLINE part root(part x)
{
    for (int l = 0; l < W; l++)
        x[l] = sqrtf(x[l]);
    return x;
}

/* What one coordinate adds to a score, before its sign. */
INLINE part step(int similarity, part sum, part e, float q)
{
    if (similarity == DOT)
        return sum + e * q;
    const part x = e - q;
    return similarity == L1 ? sum + magnitude(x) : sum + x * x;
}

/* Q queries [dim, Q] with a panel [dim, PANEL] -> scores at out + query * stride. Inlined once for each similarity. */
INLINE void block(int similarity, int64_t dim, const float *query, const float *panel, float *out, int64_t stride)
{
    part sum[Q][V] = {0};
    if (similarity == MODULUS) {
        const int64_t half = dim / 2;
        for (int64_t k = 0; k < half; k++)
            for (int q = 0; q < Q; q++)
                for (int v = 0; v < V; v++) {
                    const part real = ((const part *)(panel + k * PANEL))[v] - query[k * Q + q];
                    const part imaginary =
                        ((const part *)(panel + (half + k) * PANEL))[v] - query[(half + k) * Q + q];
                    sum[q][v] += root(real * real + imaginary * imaginary);
                }
    } else {
        for (int64_t k = 0; k < dim; k++)
#pragma GCC unroll 8
            for (int q = 0; q < Q; q++)
#pragma GCC unroll 3
                for (int v = 0; v < V; v++)
                    sum[q][v] = step(similarity, sum[q][v], ((const part *)(panel + k * PANEL))[v], query[k * Q + q]);
    }
    for (int q = 0; q < Q; q++)
        for (int v = 0; v < V; v++) {
            part s = similarity == L2 ? root(sum[q][v]) : sum[q][v];
            ((part *)(out + q * stride))[v] = similarity == DOT ? s : -s;
        }
}

/* One function for tiles and for true answers, never inlined, so that both have their scores from the same code. */
static __attribute__((noinline)) void score(const Problem *p, const float *query, const float *panel,
                                            const float *bias, float *out, int64_t stride)
{
    switch (p->similarity) {
    case DOT: block(DOT, p->dim, query, panel, out, stride); break;
    case L1: block(L1, p->dim, query, panel, out, stride); break;
    case L2: block(L2, p->dim, query, panel, out, stride); break;
    case L2_SQUARED: block(L2_SQUARED, p->dim, query, panel, out, stride); break;
    default: block(MODULUS, p->dim, query, panel, out, stride);
    }
    for (int q = 0; q < Q; q++)
        for (int l = 0; l < PANEL; l++) {
            const float s = out[q * stride + l] + bias[l];
            out[q * stride + l] = isnan(s) ? -INFINITY : s;
        }
}

/* Lane `lane` of a panel becomes a candidate. */
INLINE void pack(const Problem *p, int64_t candidate, float *panel, float *bias, int lane)
{
    for (int64_t k = 0; k < p->dim; k++)
        panel[k * PANEL + lane] = p->table[candidate * p->dim + k];
    bias[lane] = p->bias ? p->bias[candidate] : 0.0f;
}

/* The panels of candidates low .. high - 1; what remains of the last one is zero. */
static void pack_tile(const Problem *p, int64_t low, int64_t high, float *panels, float *bias)
{
    const int64_t n = (high - low + PANEL - 1) / PANEL;
    if ((high - low) % PANEL) {
        memset(panels + (n - 1) * p->dim * PANEL, 0, sizeof(float) * p->dim * PANEL);
        memset(bias + (n - 1) * PANEL, 0, sizeof(float) * PANEL);
    }
    for (int64_t i = 0; i < high - low; i++)
        pack(p, low + i, panels + i / PANEL * p->dim * PANEL, bias + i / PANEL * PANEL, i % PANEL);
}

/* own[f]: the score of each fact's answer; the facts of query b are start[b] .. start[b + 1] - 1. */
static void own_scores(const Problem *p, int64_t first, const int64_t *start, const int64_t *answer, float *own,
                       float *panel, float *bias, float *scores)
{
    const int64_t last = first + Q < p->queries ? first + Q : p->queries;
    int64_t at = first;
    for (int64_t f = start[first]; f < start[last]; f += PANEL) {
        const int64_t n = start[last] - f < PANEL ? start[last] - f : PANEL;
        memset(panel, 0, sizeof(float) * p->dim * PANEL);
        memset(bias, 0, sizeof(float) * PANEL);
        for (int64_t i = 0; i < n; i++)
            pack(p, answer[f + i], panel, bias, i);
        score(p, p->query + first * p->dim, panel, bias, scores, PANEL);
        for (int64_t i = 0; i < n; i++) {
            while (f + i >= start[at + 1])
                at++;
            own[f + i] = scores[(at - first) * PANEL + i];
        }
    }
}

/* Adds how many of the n scores are higher and equal. NaN, which stands for no candidate, is neither. */
static void count(const float *scores, int64_t n, float own, int64_t *better, int64_t *equal)
{
    int32_t above = 0, level = 0;
    for (int64_t j = 0; j < n; j++) {
        above += scores[j] > own;
        level += scores[j] == own;
    }
#pragma omp atomic
    *better += above;
#pragma omp atomic
    *equal += level;
}

/* The first of sorted[low .. high - 1] that is not below `least`, or high. */
static int64_t not_below(const int64_t *sorted, int64_t low, int64_t high, int64_t least)
{
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (sorted[middle] < least)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Panels a tile has, so that it stays in the second-level cache. */
static int64_t panels_of(int64_t dim)
{
    const int64_t fit = TILE_BYTES / (int64_t)sizeof(float) / (PANEL * (dim ? dim : 1));
    return fit < 1 ? 1 : fit > MOST_PANELS ? MOST_PANELS : fit;
}

/* Bytes that a thread works in: a tile, its biases and the scores of Q queries; whole lines of the cache. */
static int64_t room_of(int64_t dim)
{
    const int64_t bytes = (int64_t)sizeof(float) * panels_of(dim) * PANEL * (dim + 1 + Q);
    return (bytes + 63) / 64 * 64;
}

int32_t kgkit_answers_block(void)
{
    return Q;
}

/* better, equal: [facts], zero before. raw_better, raw_equal: the same with known answers as candidates, or null.
   The known answers of query b, ascending, at known_start[b] .. known_start[b + 1] - 1. own: [facts], to work in.
   Returns 0, or 1 when memory ran out. */
int32_t kgkit_count_answers(const Problem *p, const int64_t *start, const int64_t *answer, const int64_t *known_start,
                            const int64_t *known, float *own, int64_t *better, int64_t *equal, int64_t *raw_better,
                            int64_t *raw_equal, int32_t threads)
{
    const int64_t panels = panels_of(p->dim), tile = panels * PANEL;
    const int64_t tiles = (p->candidates + tile - 1) / tile;
    int32_t failed = 0;
    (void)threads;
#pragma omp parallel num_threads(threads)
    {
        float *room = aligned_alloc(64, room_of(p->dim));
        if (!room) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp barrier
        if (!failed) {
            float *panel = room, *bias = panel + tile * p->dim, *scores = bias + tile;
#pragma omp for schedule(dynamic, 4)
            for (int64_t b = 0; b < p->queries; b += Q)
                own_scores(p, b, start, answer, own, panel, bias, scores);
#pragma omp for schedule(dynamic, 1)
            for (int64_t t = 0; t < tiles; t++) {
                const int64_t low = t * tile, high = low + tile < p->candidates ? low + tile : p->candidates;
                const int64_t n = high - low;
                pack_tile(p, low, high, panel, bias);
                for (int64_t b = 0; b < p->queries; b += Q) {
                    for (int64_t j = 0; j < n; j += PANEL)
                        score(p, p->query + b * p->dim, panel + j * p->dim, bias + j, scores + j, tile);
                    for (int64_t i = b; i < b + Q && i < p->queries; i++) {
                        float *row = scores + (i - b) * tile;
                        if (raw_better)
                            for (int64_t f = start[i]; f < start[i + 1]; f++)
                                count(row, n, own[f], raw_better + f, raw_equal + f);
                        int64_t m = not_below(known, known_start[i], known_start[i + 1], low);
                        for (; m < known_start[i + 1] && known[m] < high; m++)
                            row[known[m] - low] = NAN;
                        for (int64_t f = start[i]; f < start[i + 1]; f++)
                            count(row, n, own[f], better + f, equal + f);
                    }
                }
            }
        }
        free(room);
    }
    return failed;
}
