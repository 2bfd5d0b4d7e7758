/* Vectors of WIDTH lanes: loading, transposing, logarithm. Included by variants.c only. */

#undef Lanes
#undef Bits
#undef EACH
typedef float NAME(lanes) __attribute__((vector_size(4 * WIDTH)));
typedef int32_t NAME(bits) __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t NAME(shorts) __attribute__((vector_size(2 * WIDTH)));
#define Lanes NAME(lanes)
#define Bits NAME(bits)

#ifndef AALBERT_LANES_H
#define AALBERT_LANES_H
/* Where lane j comes from when the blocks of `step` lanes of two vectors are swapped. */
#define LOW(j, step) ((j) & (step) ? WIDTH + (j) - (step) : (j))
#define HIGH(j, step) ((j) & (step) ? WIDTH + (j) : (j) + (step))
#define EACH_4(from, step) from(0, step), from(1, step), from(2, step), from(3, step)
#define EACH_8(from, step) \
    EACH_4(from, step), from(4, step), from(5, step), from(6, step), from(7, step)
#define EACH_16(from, step) \
    EACH_8(from, step), from(8, step), from(9, step), from(10, step), from(11, step), \
        from(12, step), from(13, step), from(14, step), from(15, step)
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (Bits){__VA_ARGS__})
#endif
#define SWAP_BLOCKS(rows, step) \
    UNROLL for (int i = 0; i < WIDTH; i++) \
    { \
        if (!(i & (step))) { \
            Lanes low = SHUFFLE(rows[i], rows[i + (step)], EACH(LOW, step)); \
            rows[i + (step)] = SHUFFLE(rows[i], rows[i + (step)], EACH(HIGH, step)); \
            rows[i] = low; \
        } \
    }
#endif

#if WIDTH == 4
#define EACH EACH_4
#elif WIDTH == 8
#define EACH EACH_8
#else
#define EACH EACH_16
#endif

TARGET INLINE Lanes NAME(load)(const float *from)
{
    Lanes lanes;
    memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

TARGET INLINE void NAME(store)(float *to, Lanes lanes)
{
    memcpy(to, &lanes, sizeof lanes);
}

/* A square matrix is transposed by swapping its blocks of half its size, then theirs. */
TARGET INLINE void NAME(transpose)(Lanes rows[WIDTH])
{
#if WIDTH >= 16
    SWAP_BLOCKS(rows, 8)
#endif
#if WIDTH >= 8
    SWAP_BLOCKS(rows, 4)
#endif
    SWAP_BLOCKS(rows, 2)
    SWAP_BLOCKS(rows, 1)
}

/* Lanes of `yes` where the mask is all ones, of `no` where it is 0. */
TARGET INLINE Lanes NAME(choose)(Bits mask, Lanes yes, Lanes no)
{
    return (Lanes)((mask & (Bits)yes) | (~mask & (Bits)no));
}

/* The natural logarithm, within 1 ulp (measured: 0.83 over all float32 numbers above 0).
 *
 * x = 2^e m with m from sqrt(1/2) to sqrt(2), and with f = m - 1, s = f / (2 + f):
 * ln(1 + f) = 2 atanh(s) = f - f^2/2 + s (f^2/2 + r), r = 2/3 s^2 + 2/5 s^4 + 2/7 s^6 + ...,
 * of which four terms are enough for |s| < 0.172. ln(2) is taken in two parts, the first with
 * so few digits that its product with e is exact. */
TARGET INLINE Lanes NAME(logarithm)(Lanes x)
{
    const Lanes zero = {0};
    Bits subnormal = x < 0x1p-126f;
    Lanes normal = NAME(choose)(subnormal, x * 0x1p23f, x);
    Bits high = (Bits)normal - 0x3f3504f3; /* the bits of sqrt(1/2) */
    Lanes e = __builtin_convertvector((high >> 23) - (subnormal & 23), Lanes);
    Lanes f = (Lanes)((high & 0x7fffff) + 0x3f3504f3) - 1.0f;
    Lanes s = f / (2.0f + f), z = s * s, half = 0.5f * f * f;
    Lanes r = z * (0x1.555556p-1f + z * (0.4f + z * (0x1.24924ap-2f + z * 0x1.c71c72p-3f)));
    Lanes ln = e * 0x1.62ep-1f - ((half - (s * (half + r) + e * 0x1.0bfbe8p-15f)) - f);
    ln = NAME(choose)(x < INFINITY, ln, x); /* infinity and NaN stay */
    ln = NAME(choose)(x == zero, zero - INFINITY, ln);
    return NAME(choose)(x < zero, zero + NAN, ln);
}
