/* Functions of floats in forms that compilers vectorise, for kernels to include. */

#ifndef KGKIT_VECTOR_MATH_H
#define KGKIT_VECTOR_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* e^x to 2 ulp, in a form that compilers vectorise (Cephes). */
INLINE float exp_(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float n = floorf(x * 1.44269504088896341f + 0.5f);
    const float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    const int32_t bits = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return y * scale;
}

/* log(1 + x) for x in 0 ... 1, to 2e-7 (relative): x P(x), interpolated at Chebyshev's points. */
INLINE float log1p_(float x)
{
    float p = 1.986696618e-03f;
    p = p * x - 1.318782661e-02f;
    p = p * x + 4.100657627e-02f;
    p = p * x - 8.188041300e-02f;
    p = p * x + 1.237799600e-01f;
    p = p * x - 1.608762294e-01f;
    p = p * x + 1.988582015e-01f;
    p = p * x - 2.498649657e-01f;
    p = p * x + 3.333249688e-01f;
    p = p * x - 4.999997914e-01f;
    p = p * x + 1.0f;
    return x * p;
}

#endif
