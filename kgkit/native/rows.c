/* Optimiser steps on some rows of a table, in parallel over the rows; see kgkit/train/row_optimiser.py. */

#include <math.h>
#include <stdint.h>

enum { ADAM, ADAGRAD, SGD };

typedef struct {
    int64_t kind, width, total, threads; /* floats a row, floats in the table */
    float rate, epsilon;
    float mean_share, square_share; /* Adam's 1 - beta1 and 1 - beta2 */
    float most, unit;               /* norms that rows must not exceed, or must have; 0 for none */
} Step;

static inline void adam(float *restrict p, float *restrict mean, float *restrict square, const float *restrict g,
                        int64_t n, const Step *s)
{
    const float rate = s->rate, epsilon = s->epsilon, a = s->mean_share, b = s->square_share;
    for (int64_t i = 0; i < n; i++) {
        const float m = mean[i] + (g[i] - mean[i]) * a;
        const float v = square[i] + (g[i] * g[i] - square[i]) * b;
        mean[i] = m;
        square[i] = v;
        p[i] -= rate * m / (sqrtf(v) + epsilon);
    }
}

static inline void adagrad(float *restrict p, float *restrict sum, const float *restrict g, int64_t n, const Step *s)
{
    const float rate = s->rate, epsilon = s->epsilon;
    for (int64_t i = 0; i < n; i++) {
        const float v = sum[i] + g[i] * g[i];
        sum[i] = v;
        p[i] -= rate * g[i] / (sqrtf(v) + epsilon);
    }
}

/* A row to the Euclidean norm that the constraint asks for. */
static inline void constrain(float *p, int64_t n, const Step *s)
{
    float squares = 0;
    for (int64_t i = 0; i < n; i++)
        squares += p[i] * p[i];
    const float norm = sqrtf(squares);
    float by = 1;
    if (s->unit > 0 && norm > 0)
        by = s->unit / norm;
    else if (s->most > 0 && norm > s->most)
        by = s->most / norm;
    if (by != 1)
        for (int64_t i = 0; i < n; i++)
            p[i] *= by;
}

/* gradient [n, width] belongs to rows [n] of the table, distinct; rows NULL: row i to row i, the last may be short.
 * mean: Adam's; square: Adam's, or Adagrad's sum. */
void kgkit_rows_update(const Step *s, float *table, float *mean, float *square, const int64_t *rows, int64_t n,
                       const float *gradient)
{
    const int64_t width = s->width;
#pragma omp parallel for schedule(dynamic, 64) num_threads(s->threads)
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = (rows ? rows[i] : i) * width;
        const int64_t size = width < s->total - at ? width : s->total - at;
        const float *g = gradient + i * width;
        if (rows && i + 3 < n) { /* rows lie anywhere: ask for them before they are needed */
            const int64_t next = rows[i + 3] * width;
            for (int64_t k = 0; k < width && k < 256; k += 16) {
                __builtin_prefetch(table + next + k, 1);
                if (s->kind == ADAM)
                    __builtin_prefetch(mean + next + k, 1);
                if (s->kind != SGD)
                    __builtin_prefetch(square + next + k, 1);
            }
        }
        if (s->kind == ADAM)
            adam(table + at, mean + at, square + at, g, size, s);
        else if (s->kind == ADAGRAD)
            adagrad(table + at, square + at, g, size, s);
        else
            for (int64_t k = 0; k < size; k++)
                table[at + k] -= s->rate * g[k];
        if (s->unit > 0 || s->most > 0)
            constrain(table + at, size, s);
    }
}
