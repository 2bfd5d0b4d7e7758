/* Numbers from one format to another, and the table of a variant. Included by variants.c only. */

/* Rounds to float16 as IEEE 754 does, ties to even, and sums up what came of it.
 *
 * float32 has 13 more bits of mantissa, and its exponent is biased by 112 more. Below 2^-14 a
 * float16 counts multiples of 2^-24, and so do the last bits of numbers from 0.5 to 1. */
TARGET static bool NAME(round_row)(
    const float *restrict values, size_t count, uint16_t *restrict halves,
    double *restrict sums, double *restrict squares)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits, small_bits;
        float rounded, small;
        memcpy(&bits, values + i, 4);
        uint32_t sign = bits & 0x80000000u, magnitude = bits ^ sign;
        memcpy(&small, &magnitude, 4);
        small += 0.5f;
        memcpy(&small_bits, &small, 4);
        small -= 0.5f;
        uint32_t normal_bits = (magnitude + 0xfffu + ((magnitude >> 13) & 1)) & ~0x1fffu;
        bool is_small = magnitude < 0x38800000u; /* 2^-14 */
        uint32_t half = is_small ? small_bits - 0x3f000000u : (normal_bits >> 13) - (112u << 10);
        largest = half > largest ? half : largest;
        halves[i] = (uint16_t)(half | sign >> 16);
        memcpy(&small_bits, &small, 4);
        bits = (is_small ? small_bits : normal_bits) | sign;
        memcpy(&rounded, &bits, 4);
        sums[i] += (double)rounded;
        squares[i] += (double)rounded * (double)rounded;
    }
    return largest <= 0x7bffu;
}

TARGET static bool NAME(round_to_half)(const Rounding *work)
{
    bool fits = true;
    double *sums = work->mean, *squares = work->deviation;
    for (size_t frame = 0; frame < work->frames; frame++) {
        size_t start = frame * work->dims;
        fits &= NAME(round_row)(work->values + start, work->dims, work->halves + start, sums, squares);
    }
    double frames = work->frames ? (double)work->frames : 1;
    for (size_t i = 0; i < work->dims; i++) {
        double mean = sums[i] / frames, square = squares[i] / frames - mean * mean;
        work->mean[i] = mean;
        work->deviation[i] = square > 0 ? sqrt(square) : 0;
    }
    return fits;
}

TARGET static void NAME(scale_samples)(
    const int16_t *restrict numbers, size_t count, float *restrict out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (float)numbers[i] * 0x1p-15f;
}

static const Variant NAME(variant) = {
    .name = TEXT(SUFFIX),
    .scratch_bytes = NAME(scratch_bytes),
    .compute_spectra = NAME(compute_spectra),
    .round_to_half = NAME(round_to_half),
    .scale_samples = NAME(scale_samples),
};

#undef SUFFIX
#undef WIDTH
#undef TARGET
