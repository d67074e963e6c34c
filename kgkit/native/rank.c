/* Where held-out items stand among all items of a user, in parallel over users. */

#include <math.h>
#include <stdint.h>

/* How many of the n scores are above s, and how many equal it. NaN counts as minus infinity. */
static void compare(const float *row, int64_t n, float s, int64_t *above, int64_t *level)
{
    int32_t higher = 0, same = 0;
    if (!(s > -INFINITY)) {
        for (int64_t j = 0; j < n; j++)
            higher += row[j] > -INFINITY;
        same = (int32_t)n - higher;
    } else {
        for (int64_t j = 0; j < n; j++) {
            higher += row[j] > s;
            same += row[j] == s;
        }
    }
    *above = higher;
    *level = same;
}

/* scores [rows, n]; masked and positive items of row b, none of them both, at their start[b] .. start[b + 1];
   better, equal [positives]. */
void kgkit_rank_positives(const float *scores, int64_t rows, int64_t n, const int64_t *mask_start,
                          const int64_t *mask_items, const int64_t *pos_start, const int64_t *pos_items,
                          int64_t *better, int64_t *equal, int32_t threads)
{
    (void)threads;
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads)
    for (int64_t b = 0; b < rows; b++) {
        const float *row = scores + b * n;
        for (int64_t i = pos_start[b]; i < pos_start[b + 1]; i++) {
            const float s = row[pos_items[i]];
            int64_t above, level;
            compare(row, n, s, &above, &level);
            level--; /* the positive itself */
            for (int64_t m = mask_start[b]; m < mask_start[b + 1]; m++) {
                const float x = row[mask_items[m]];
                const int higher = s > -INFINITY ? x > s : x > -INFINITY;
                above -= higher;
                level -= !higher && (s > -INFINITY ? x == s : 1);
            }
            better[i] = above;
            equal[i] = level;
        }
    }
}
