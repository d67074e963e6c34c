/* Ranks of held-out items among all items of a user, in parallel over users. */

#include <math.h>
#include <stdint.h>

/* Items that stand before item p: a higher score, or an equal one and a smaller index. NaN stands after everything. */
static int64_t ahead(const float *row, int64_t n, int64_t p)
{
    const float s = row[p];
    int32_t count = 0;
    if (isnan(s)) {
        for (int64_t j = 0; j < n; j++)
            count += !isnan(row[j]) | (j < p);
        return count;
    }
    for (int64_t j = 0; j < p; j++)
        count += row[j] >= s;
    for (int64_t j = p + 1; j < n; j++)
        count += row[j] > s;
    return count;
}

static int is_ahead(const float *row, int64_t j, int64_t p)
{
    const float s = row[p];
    if (j == p)
        return 0;
    if (isnan(s))
        return !isnan(row[j]) | (j < p);
    return j < p ? row[j] >= s : row[j] > s;
}

/* scores [rows, n]; masked and positive items of row b at their start[b] .. start[b + 1]; ranks [positives]. */
void kgkit_rank_positives(const float *scores, int64_t rows, int64_t n, const int64_t *mask_start,
                          const int64_t *mask_items, const int64_t *pos_start, const int64_t *pos_items,
                          int64_t *ranks, int32_t threads)
{
    (void)threads;
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads)
    for (int64_t b = 0; b < rows; b++) {
        const float *row = scores + b * n;
        for (int64_t i = pos_start[b]; i < pos_start[b + 1]; i++) {
            const int64_t p = pos_items[i];
            int64_t rank = ahead(row, n, p);
            for (int64_t m = mask_start[b]; m < mask_start[b + 1]; m++)
                rank -= is_ahead(row, mask_items[m], p);
            ranks[i] = rank;
        }
    }
}
