/* Losses of whole rows of scores, and the gradients, in one go; see losses.py. Rows are shared out among threads, and a
 * row is summed in a fixed order, so results do not depend on their number. */

#include "vector_math.h"

#define CHUNK 1024 /* numbers whose sum is in float; sums of chunks are in double */

/* Rows of scores [rows, n], and the positives of row b, items[start[b]] ... items[start[b + 1] - 1]. */
typedef struct {
    int64_t rows, n, threads;
    const float *scores;
    const int64_t *start, *items;
    float smoothing, scale;
    float *loss;     /* [rows] */
    float *gradient; /* [rows, n], may be the scores; or NULL */
} Rows;

static int wrong(const Rows *r, int64_t positives)
{
    for (int64_t b = 0; b < r->rows; b++)
        if (r->start[b] < 0 || r->start[b] > r->start[b + 1] || r->start[b + 1] > positives)
            return 1;
    for (int64_t i = r->rows ? r->start[0] : 0; i < (r->rows ? r->start[r->rows] : 0); i++)
        if (r->items[i] < 0 || r->items[i] >= r->n)
            return 1;
    return 0;
}

/* Sum of a row's scores at its positives. */
static double at_positives(const Rows *r, int64_t b)
{
    double sum = 0;
    for (int64_t i = r->start[b]; i < r->start[b + 1]; i++)
        sum += r->scores[b * r->n + r->items[i]];
    return sum;
}

/* What the gradient lacks at a row's positives. */
static void less_positives(const Rows *r, int64_t b, float share)
{
    for (int64_t i = r->start[b]; r->gradient && i < r->start[b + 1]; i++)
        r->gradient[b * r->n + r->items[i]] -= share;
}

/* Where the gradient of a chunk goes. */
INLINE float *place(const Rows *r, int64_t b, int64_t first, float *spare)
{
    return r->gradient ? r->gradient + b * r->n + first : spare;
}

/* The softplus of x less `low` x, summed, and the derivative of that times `scale`. */
INLINE float bce_chunk(const float *x, float *to, int64_t n, float low, float scale)
{
    float sum = 0;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) {
        const float e = exp_(-fabsf(x[i])), one = 1.0f / (1.0f + e);
        sum += (x[i] > 0 ? x[i] : 0) + log1p_(e) - low * x[i];
        to[i] = ((x[i] >= 0 ? one : e * one) - low) * scale;
    }
    return sum;
}

/* Binary cross-entropy of logits. Returns 1 where the positives do not fit. */
int32_t kgkit_losses_bce(const Rows *r, int64_t positives)
{
    const float low = r->smoothing / (float)r->n, share = 1.0f - r->smoothing;
    if (wrong(r, positives))
        return 1;
#pragma omp parallel for schedule(dynamic, 1) num_threads(r->threads)
    for (int64_t b = 0; b < r->rows; b++) {
        float spare[CHUNK];
        double sum = -share * at_positives(r, b);
        for (int64_t i = 0; i < r->n; i += CHUNK)
            sum += bce_chunk(r->scores + b * r->n + i, place(r, b, i, spare), r->n - i < CHUNK ? r->n - i : CHUNK, low,
                             r->scale);
        less_positives(r, b, share * r->scale);
        r->loss[b] = (float)(sum * r->scale);
    }
    return 0;
}

/* e^(x - top), kept and summed. */
INLINE float exp_chunk(const float *x, float *to, int64_t n, float top)
{
    float sum = 0;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) {
        const float e = x[i] - top < -87.0f ? 0 : exp_(x[i] - top);
        sum += e;
        to[i] = e;
    }
    return sum;
}

/* Cross-entropy of the softmax with equal shares for the positives; a row without any costs nothing. */
int32_t kgkit_losses_softmax(const Rows *r, int64_t positives)
{
    if (wrong(r, positives))
        return 1;
#pragma omp parallel for schedule(dynamic, 1) num_threads(r->threads)
    for (int64_t b = 0; b < r->rows; b++) {
        const float *x = r->scores + b * r->n;
        const int64_t count = r->start[b + 1] - r->start[b];
        float spare[CHUNK];
        if (!count) {
            r->loss[b] = 0;
            if (r->gradient)
                memset(r->gradient + b * r->n, 0, r->n * sizeof *x);
            continue;
        }
        const float low = r->smoothing / (float)r->n, share = (1.0f - r->smoothing) / (float)count;
        double sum = 0, smooth = 0, wanted = share * at_positives(r, b);
        float top = x[0];
        for (int64_t i = 0; i < r->n; i++)
            top = x[i] > top ? x[i] : top;
        if (low > 0)
            for (int64_t i = 0; i < r->n; i++)
                smooth += x[i];
        for (int64_t i = 0; i < r->n; i += CHUNK)
            sum += exp_chunk(x + i, place(r, b, i, spare), r->n - i < CHUNK ? r->n - i : CHUNK, top);
        r->loss[b] = (float)((log(sum) + top - wanted - (low > 0 ? low * smooth : 0)) * r->scale);
        if (r->gradient) {
            float *restrict g = r->gradient + b * r->n;
            const float by = (float)(r->scale / sum), less = low * r->scale;
            for (int64_t i = 0; i < r->n; i++)
                g[i] = g[i] * by - less;
        }
        less_positives(r, b, share * r->scale);
    }
    return 0;
}
