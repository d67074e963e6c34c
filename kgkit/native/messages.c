/* Messages of a relational graph convolution: what every entity hears from its neighbours, and the gradients of that.
 *
 * An edge e leads from source s to target t by relation r and weighs w; an edge of weight 0 is not there. Two kinds:
 *
 *     basis   out[t, b] = sum_e w a[r, b] h[s]        D numbers for each of B bases
 *     block   out[t] = sum_e w (Q[r, 0] + ... ) h[s]  Q[r, n] is the S x S matrix of the n-th S numbers
 *
 * Every sum runs over edges in a fixed order (by target, by source or by relation), the long ones of a relation in
 * pieces of fixed size whose sums are added in order, so no result depends on the number of threads.
 */

#include <stdint.h>
#include <string.h>

/* The library is built for one size of vectors, and one of blocks. */
#ifndef D
#define D 100
#endif
#ifndef S
#define S 1
#endif

typedef struct {
    int64_t entities, relations, pieces, bases, threads;
    const int32_t *source, *relation, *target; /* [E], by target */
    const int64_t *target_start;               /* [entities + 1] the edges of a target */
    const int32_t *by_source;                  /* [E] edges by source */
    const int64_t *source_start;               /* [entities + 1] */
    const int32_t *by_relation;                /* [E] edges by relation */
    const int64_t *piece_start;                /* [pieces + 1] in by_relation */
    const int64_t *relation_piece;             /* [relations + 1] the pieces of a relation */
    const float *weight;                       /* [E] */
    const float *h;                            /* [entities, D] */
    const float *matrix;                       /* a [relations, B], or Q [relations, D / S, S, S]: row i is input i */
} Graph;

/* --- Basis ------------------------------------------------------------------------------------------------------ */

/* out: [entities, B, D] */
void kgkit_messages_basis(const Graph *g, float *out)
{
    const int64_t bases = g->bases;
#pragma omp parallel for schedule(dynamic, 128) num_threads(g->threads)
    for (int64_t t = 0; t < g->entities; t++) {
        float *z = out + t * bases * D;
        memset(z, 0, sizeof(float) * bases * D);
        for (int64_t e = g->target_start[t]; e < g->target_start[t + 1]; e++) {
            const float w = g->weight[e];
            if (w == 0)
                continue;
            const float *restrict x = g->h + (int64_t)g->source[e] * D;
            const float *a = g->matrix + (int64_t)g->relation[e] * bases;
            for (int64_t b = 0; b < bases; b++) {
                const float c = w * a[b];
                float *restrict zb = z + b * D;
                for (int k = 0; k < D; k++)
                    zb[k] += c * x[k];
            }
        }
    }
}

/* d_out: [entities, B, D]; dots: [E, B] scratch; d_h: [entities, D]; d_a: [relations, B] */
void kgkit_messages_basis_gradients(const Graph *g, const float *d_out, float *dots, float *d_h, float *d_a)
{
    const int64_t bases = g->bases;
#pragma omp parallel for schedule(dynamic, 128) num_threads(g->threads)
    for (int64_t s = 0; s < g->entities; s++) {
        const float *restrict x = g->h + s * D;
        float *restrict y = d_h + s * D;
        memset(y, 0, sizeof(float) * D);
        for (int64_t i = g->source_start[s]; i < g->source_start[s + 1]; i++) {
            const int64_t e = g->by_source[i];
            const float w = g->weight[e];
            const float *a = g->matrix + (int64_t)g->relation[e] * bases;
            const float *z = d_out + (int64_t)g->target[e] * bases * D;
            for (int64_t b = 0; b < bases; b++) {
                float dot = 0;
                if (w != 0) {
                    const float c = w * a[b];
                    const float *restrict zb = z + b * D;
                    for (int k = 0; k < D; k++) {
                        y[k] += c * zb[k];
                        dot += x[k] * zb[k];
                    }
                }
                dots[e * bases + b] = w * dot;
            }
        }
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(g->threads)
    for (int64_t r = 0; r < g->relations; r++)
        for (int64_t b = 0; b < bases; b++) {
            double sum = 0;
            const int64_t end = g->piece_start[g->relation_piece[r + 1]];
            for (int64_t i = g->piece_start[g->relation_piece[r]]; i < end; i++)
                sum += dots[g->by_relation[i] * bases + b];
            d_a[r * bases + b] = (float)sum;
        }
}

/* --- Block ------------------------------------------------------------------------------------------------------ */

/* out: [entities, D] */
void kgkit_messages_block(const Graph *g, float *out)
{
#pragma omp parallel for schedule(dynamic, 128) num_threads(g->threads)
    for (int64_t t = 0; t < g->entities; t++) {
        float *restrict z = out + t * D;
        memset(z, 0, sizeof(float) * D);
        for (int64_t e = g->target_start[t]; e < g->target_start[t + 1]; e++) {
            const float w = g->weight[e];
            if (w == 0)
                continue;
            const float *restrict x = g->h + (int64_t)g->source[e] * D;
            const float *restrict q = g->matrix + (int64_t)g->relation[e] * D * S;
            for (int n = 0; n < D; n += S)
                for (int i = 0; i < S; i++) {
                    const float c = w * x[n + i];
                    for (int o = 0; o < S; o++)
                        z[n + o] += c * q[(n + i) * S + o];
                }
        }
    }
}

/* d_out: [entities, D]; partial: [pieces, D, S] scratch; d_h: [entities, D]; d_q: [relations, D / S, S, S] */
void kgkit_messages_block_gradients(const Graph *g, const float *d_out, float *partial, float *d_h, float *d_q)
{
#pragma omp parallel for schedule(dynamic, 128) num_threads(g->threads)
    for (int64_t s = 0; s < g->entities; s++) {
        float *restrict y = d_h + s * D;
        memset(y, 0, sizeof(float) * D);
        for (int64_t i = g->source_start[s]; i < g->source_start[s + 1]; i++) {
            const int64_t e = g->by_source[i];
            const float w = g->weight[e];
            if (w == 0)
                continue;
            const float *restrict z = d_out + (int64_t)g->target[e] * D;
            const float *restrict q = g->matrix + (int64_t)g->relation[e] * D * S;
            for (int n = 0; n < D; n += S)
                for (int k = 0; k < S; k++) {
                    float dot = 0;
                    for (int o = 0; o < S; o++)
                        dot += q[(n + k) * S + o] * z[n + o];
                    y[n + k] += w * dot;
                }
        }
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(g->threads)
    for (int64_t p = 0; p < g->pieces; p++) {
        float *restrict sum = partial + p * D * S;
        memset(sum, 0, sizeof(float) * D * S);
        for (int64_t i = g->piece_start[p]; i < g->piece_start[p + 1]; i++) {
            const int64_t e = g->by_relation[i];
            const float w = g->weight[e];
            if (w == 0)
                continue;
            const float *restrict x = g->h + (int64_t)g->source[e] * D;
            const float *restrict z = d_out + (int64_t)g->target[e] * D;
            for (int n = 0; n < D; n += S)
                for (int k = 0; k < S; k++) {
                    const float c = w * x[n + k];
                    for (int o = 0; o < S; o++)
                        sum[(n + k) * S + o] += c * z[n + o];
                }
        }
    }
    for (int64_t r = 0; r < g->relations; r++) {
        float *restrict sum = d_q + r * D * S;
        memset(sum, 0, sizeof(float) * D * S);
        for (int64_t p = g->relation_piece[r]; p < g->relation_piece[r + 1]; p++)
            for (int k = 0; k < D * S; k++)
                sum[k] += partial[p * D * S + k];
    }
}
