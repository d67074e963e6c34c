/* Distances of every query to every candidate, and their gradients, in registers: L1, and the sum of the moduli of
 * complex differences (real parts in the first half of a vector, imaginary parts in the second).
 *
 * Forward, a vector register holds one dimension of LANES candidates; backward, LANES dimensions of one row. Each number
 * of a result is summed by one thread in a fixed order, so results do not depend on the number of threads.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#define LANES 16
#define ROWS 8 /* that a block has in registers */
#else
#include <math.h>
#define LANES 8
#define ROWS 4
#endif
#define TILE (2 * LANES) /* candidates of a block */
#define STRETCH 512      /* rows of the other side between two visits of the sum, backward */
#define TINY 1e-30f      /* as in kgkit/nn/similarity.py */
#define INLINE static inline __attribute__((always_inline))

enum { L1, MODULUS };

typedef float part __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE part load(const float *p) { return *(const part *)p; }
INLINE part all(float x) { return x - (part){0}; }
INLINE part absolute(part x) { return (part)((bits)x & 0x7fffffff); }

#ifdef __AVX512F__
/* 1 / sqrt(x), from 14 bits by one step of Newton's. */
INLINE part inverse_root(part x)
{
    const part r = (part)_mm512_rsqrt14_ps((__m512)x);
    return r * (1.5f - 0.5f * x * r * r);
}
INLINE part root(part x)
{
    const part r = (part)_mm512_rsqrt14_ps((__m512)x), y = x * r;
    return y + 0.5f * r * (x - y * y);
}
/* sum - g sign(x - y) */
INLINE part less_sign(part sum, part x, part y, part g)
{
    const __mmask16 above = _mm512_cmp_ps_mask((__m512)x, (__m512)y, _CMP_GT_OQ);
    const __mmask16 below = _mm512_cmp_ps_mask((__m512)x, (__m512)y, _CMP_LT_OQ);
    const __m512 less = _mm512_mask_sub_ps((__m512)sum, above, (__m512)sum, (__m512)g);
    return (part)_mm512_mask_add_ps(less, below, less, (__m512)g);
}
#else
INLINE part root(part x)
{
    for (int i = 0; i < LANES; i++)
        x[i] = sqrtf(x[i]);
    return x;
}
INLINE part inverse_root(part x) { return 1.0f / root(x); }
INLINE part less_sign(part sum, part x, part y, part g)
{
    return sum - (part)((bits)g & (x > y)) + (part)((bits)g & (x < y));
}
#endif

/* Minus the distances of `rows` queries [., d] to a tile, packed [d, TILE]; `count` of its candidates exist. */
INLINE void score_block(int kind, int rows, const float *q, int64_t d, const float *tile, float *out, int64_t n,
                        int64_t count)
{
    part sum[ROWS][2];
    memset(sum, 0, sizeof sum);
    if (kind == L1)
        for (int64_t i = 0; i < d; i++) {
            const part a = load(tile + i * TILE), b = load(tile + i * TILE + LANES);
            for (int r = 0; r < rows; r++) {
                sum[r][0] -= absolute(q[r * d + i] - a);
                sum[r][1] -= absolute(q[r * d + i] - b);
            }
        }
    else
        for (int64_t i = 0, h = d / 2; i < h; i++)
            for (int side = 0; side < 2; side++) {
                const part a = load(tile + i * TILE + side * LANES), b = load(tile + (h + i) * TILE + side * LANES);
                for (int r = 0; r < rows; r++) {
                    const part real = q[r * d + i] - a, imaginary = q[r * d + h + i] - b;
                    sum[r][side] -= root(real * real + imaginary * imaginary + TINY);
                }
            }
    for (int r = 0; r < rows; r++)
        memcpy(out + r * n, sum[r], count * sizeof *out);
}

INLINE void score(int kind, const float *queries, int64_t rows, const float *table, int64_t n, int64_t d, float *out,
                  int32_t threads, int32_t *failed)
{
    (void)threads;
#pragma omp parallel num_threads(threads)
    {
        float *tile = malloc((d + 1) * TILE * sizeof *tile);
        if (!tile)
#pragma omp atomic write
            *failed = 1;
#pragma omp for schedule(dynamic, 1)
        for (int64_t first = 0; first < n; first += TILE) {
            if (!tile)
                continue;
            const int64_t count = n - first < TILE ? n - first : TILE;
            for (int64_t c = 0; c < TILE; c++)
                for (int64_t i = 0; i < d; i++)
                    tile[i * TILE + c] = c < count ? table[(first + c) * d + i] : 0;
            int64_t b = 0;
            for (; b + ROWS <= rows; b += ROWS)
                score_block(kind, ROWS, queries + b * d, d, tile, out + b * n + first, n, count);
            for (; b < rows; b++)
                score_block(kind, 1, queries + b * d, d, tile, out + b * n + first, n, count);
        }
        free(tile);
    }
}

/* out [rows, n]: minus the distances of queries [rows, d] and table [n, d]. Returns 1 if out of memory. */
int32_t kgkit_distance_score(int64_t kind, const float *queries, int64_t rows, const float *table, int64_t n, int64_t d,
                             float *out, int32_t threads)
{
    int32_t failed = 0;
    if (kind == L1)
        score(L1, queries, rows, table, n, d, out, threads, &failed);
    else
        score(MODULUS, queries, rows, table, n, d, out, threads, &failed);
    return failed;
}

/* Adds to the gradients of ROWS rows of x, at dimensions i ... i + LANES, what `count` rows of y contribute. */
INLINE void gradient_block(int kind, const float *const *x, const float *y, int64_t width, int64_t i, int64_t count,
                           const float *weight, float *const *out)
{
    part sum[ROWS], own[ROWS];
    const int64_t h = width / 2;
    for (int r = 0; r < ROWS; r++) {
        sum[r] = load(out[r] + i);
        own[r] = load(x[r] + i);
    }
    if (kind == L1) {
        for (int64_t k = 0; k < count; k++) {
            const part other = load(y + k * width + i);
            for (int r = 0; r < ROWS; r++)
                sum[r] = less_sign(sum[r], own[r], other, all(weight[k * ROWS + r]));
        }
    } else {
        part sum2[ROWS];
        for (int r = 0; r < ROWS; r++)
            sum2[r] = load(out[r] + h + i);
        for (int64_t k = 0; k < count; k++) {
            const part a = load(y + k * width + i), b = load(y + k * width + h + i);
            for (int r = 0; r < ROWS; r++) {
                const part real = own[r] - a, imaginary = load(x[r] + h + i) - b;
                const part by = weight[k * ROWS + r] * inverse_root(real * real + imaginary * imaginary + TINY);
                sum[r] -= by * real;
                sum2[r] -= by * imaginary;
            }
        }
        for (int r = 0; r < ROWS; r++)
            *(part *)(out[r] + h + i) = sum2[r];
    }
    for (int r = 0; r < ROWS; r++)
        *(part *)(out[r] + i) = sum[r];
}

INLINE void gradient(int kind, const float *x, int64_t rows, const float *y, int64_t n, int64_t width,
                     const float *weight, int64_t by_row, int64_t by_other, float *out, int32_t threads)
{
    (void)threads;
    const int64_t columns = kind == L1 ? width : width / 2;
#pragma omp parallel for schedule(dynamic, 2) num_threads(threads)
    for (int64_t first = 0; first < rows; first += ROWS) {
        const float *own[ROWS];
        float *sum[ROWS], *spare = out + rows * width; /* rows that do not exist weigh nothing */
        float packed[STRETCH * ROWS];
        const int64_t exist = rows - first < ROWS ? rows - first : ROWS;
        for (int r = 0; r < ROWS; r++) {
            own[r] = x + (r < exist ? first + r : first) * width;
            sum[r] = r < exist ? out + (first + r) * width : spare;
            if (r < exist)
                memset(sum[r], 0, width * sizeof *out);
        }
        for (int64_t other = 0; other < n; other += STRETCH) {
            const int64_t count = n - other < STRETCH ? n - other : STRETCH;
            for (int64_t k = 0; k < count; k++)
                for (int r = 0; r < ROWS; r++)
                    packed[k * ROWS + r] = r < exist ? weight[(first + r) * by_row + (other + k) * by_other] : 0;
            for (int64_t i = 0; i < columns; i += LANES)
                gradient_block(kind, own, y + other * width, width, i, count, packed, sum);
        }
    }
}

/* out [rows + 1, width], the last row scratch: the gradient by x [rows, width] of sum_xy weight_xy * -|x - y|, where
 * weight_xy = weight[x * by_row + y * by_other] and y [n, width]. width: a multiple of LANES (twice that of complex
 * vectors, each half padded by zeros). */
void kgkit_distance_gradient(int64_t kind, const float *x, int64_t rows, const float *y, int64_t n, int64_t width,
                             const float *weight, int64_t by_row, int64_t by_other, float *out, int32_t threads)
{
    if (kind == L1)
        gradient(L1, x, rows, y, n, width, weight, by_row, by_other, out, threads);
    else
        gradient(MODULUS, x, rows, y, n, width, weight, by_row, by_other, out, threads);
}
