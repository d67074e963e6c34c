/* A set of strings with open addressing, for kgkit/native/id_set.py, which owns all memory.
 *
 * The strings lie one after another in `arena`, string i at starts[i] .. starts[i + 1]. A slot is 0 when it is free,
 * else the 32-bit hash of a string (high half) and its number plus one (low half). A string's place is the first
 * `bits` bits of its hash, or the next free slot after it: growing the table needs no look at the strings.
 * Equal hashes are told apart by comparing the strings themselves, so that the answers are exact.
 */

#include <stdint.h>
#include <string.h>

#define BLOCK 64 /* strings whose slots are fetched from memory together */

static uint64_t mix(uint64_t x)
{
    x *= 0x9e3779b97f4a7c15u; /* 2^64 over the golden ratio */
    x ^= x >> 32;
    x *= 0xd1b54a32d192ed03u;
    return x ^ x >> 29;
}

static uint32_t hash(const uint8_t *text, int64_t length, uint64_t seed)
{
    uint64_t h = seed ^ (uint64_t)length, word;
    for (; length >= 8; text += 8, length -= 8) {
        memcpy(&word, text, 8);
        h = mix(h ^ word);
    }
    word = 0;
    memcpy(&word, text, (size_t)length);
    return (uint32_t)(mix(mix(h ^ word)) >> 32);
}

/* The slot that holds the string, or the free one where it belongs. There is always a free one. */
static uint64_t probe(const uint64_t *slots, int32_t bits, const uint8_t *arena, const int64_t *starts,
                      const uint8_t *text, int64_t length, uint32_t h)
{
    const uint64_t last = ((uint64_t)1 << bits) - 1;
    uint64_t at = h >> (32 - bits);
    while (slots[at]) {
        if ((uint32_t)(slots[at] >> 32) == h) {
            const int64_t i = (int64_t)(uint32_t)slots[at] - 1;
            if (starts[i + 1] - starts[i] == length && memcmp(arena + starts[i], text, (size_t)length) == 0)
                return at;
        }
        at = (at + 1) & last;
    }
    return at;
}

/* Hashes of `many` strings, whose slots are on their way from memory from then on. */
static void begin(const uint64_t *slots, int32_t bits, uint64_t seed, const uint8_t *text, const int64_t *offsets,
                  int64_t many, uint32_t *h)
{
    for (int64_t j = 0; j < many; j++) {
        h[j] = hash(text + offsets[j], offsets[j + 1] - offsets[j], seed);
        __builtin_prefetch(slots + (h[j] >> (32 - bits)));
    }
}

/* number[i] = the number of string i (text at offsets[i] .. offsets[i + 1]), -1 if it is not in the set, unless
 * `number` is null. When `adding` (a constant, so that both callers get a loop of their own), strings that are not in
 * the set of `count` are added to it, and it is returned how many it has then. */
static inline int64_t walk(uint64_t *slots, int32_t bits, uint64_t seed, uint8_t *arena, int64_t *starts, int64_t count,
                           const uint8_t *text, const int64_t *offsets, int64_t n, int64_t *number, int adding)
{
    uint32_t h[BLOCK];
    for (int64_t first = 0; first < n; first += BLOCK) {
        const int64_t many = n - first < BLOCK ? n - first : BLOCK;
        const int64_t *o = offsets + first;
        begin(slots, bits, seed, text, o, many, h);
        for (int64_t j = 0; j < many; j++) {
            const uint8_t *own = text + o[j];
            const int64_t length = o[j + 1] - o[j];
            const uint64_t at = probe(slots, bits, arena, starts, own, length, h[j]);
            if (adding && !slots[at]) {
                memcpy(arena + starts[count], own, (size_t)length);
                starts[count + 1] = starts[count] + length;
                slots[at] = (uint64_t)h[j] << 32 | (uint64_t)(++count);
            }
            if (number)
                number[first + j] = (int64_t)(uint32_t)slots[at] - 1; /* of a free slot -1 */
        }
    }
    return count;
}

/* The numbers of n strings. */
void kgkit_id_set_find(uint64_t *slots, int32_t bits, uint64_t seed, uint8_t *arena, int64_t *starts,
                       const uint8_t *text, const int64_t *offsets, int64_t n, int64_t *number)
{
    walk(slots, bits, seed, arena, starts, 0, text, offsets, n, number, 0);
}

/* Adds n strings to a set of `count`, and returns how many it has then. There must be room for all of them. */
int64_t kgkit_id_set_add(uint64_t *slots, int32_t bits, uint64_t seed, uint8_t *arena, int64_t *starts, int64_t count,
                         const uint8_t *text, const int64_t *offsets, int64_t n, int64_t *number)
{
    return walk(slots, bits, seed, arena, starts, count, text, offsets, n, number, 1);
}

/* Moves what is in `size` slots into a larger, empty table. */
void kgkit_id_set_move(const uint64_t *slots, int64_t size, uint64_t *larger, int32_t bits)
{
    const uint64_t last = ((uint64_t)1 << bits) - 1;
    for (int64_t i = 0; i < size; i++) {
        if (!slots[i])
            continue;
        uint64_t at = (uint32_t)(slots[i] >> 32) >> (32 - bits);
        while (larger[at])
            at = (at + 1) & last;
        larger[at] = slots[i];
    }
}
