/* Conversion of number formats, and the table of a variant. Included by variants.c only. */

/* Rounds to float16 as IEEE 754 does, ties to even: returns the bits, and writes the rounded
 * numbers as float32. `largest` has the bits of the largest magnitude; those of NaN exceed all.
 *
 * float32 has 13 more bits of mantissa, and its exponent is biased by 112 more. Below 2^-14,
 * float16 numbers are multiples of 2^-24, as are float32 numbers from 0.5 to 1. */
TARGET INLINE Bits NAME(halve)(Lanes values, Lanes *rounded, Bits *largest)
{
    Bits magnitude = (Bits)values & 0x7fffffff, sign = (Bits)values ^ magnitude;
    Bits is_small = magnitude < 0x38800000; /* 2^-14 */
    Lanes small = (Lanes)magnitude + 0.5f;
    Bits normal = (magnitude + 0xfff + ((magnitude >> 13) & 1)) & ~0x1fff;
    Bits half = (is_small & ((Bits)small - 0x3f000000)) |
                (~is_small & ((normal >> 13) - (112 << 10)));
    Bits larger = magnitude > *largest;
    *largest = (larger & magnitude) | (~larger & *largest);
    *rounded = (Lanes)((Bits)NAME(choose)(is_small, small - 0.5f, (Lanes)normal) | sign);
    return half | ((sign >> 16) & 0x8000);
}

/* Rounds up to WIDTH columns of a row and adds them to their sums. */
TARGET INLINE void NAME(round_some)(
    const float *restrict values, size_t count, uint16_t *restrict halves,
    double *restrict sums, double *restrict squares, Bits *restrict largest)
{
    Lanes lanes = {0}, rounded;
    memcpy(&lanes, values, count * sizeof *values);
    NAME(shorts) bits = __builtin_convertvector(NAME(halve)(lanes, &rounded, largest), NAME(shorts));
    memcpy(halves, &bits, count * sizeof *halves);
    float numbers[WIDTH];
    NAME(store)(numbers, rounded);
    for (size_t i = 0; i < count; i++) {
        sums[i] += (double)numbers[i];
        squares[i] += (double)numbers[i] * (double)numbers[i];
    }
}

TARGET static bool NAME(round_to_half)(const Rounding *work)
{
    double *sums = work->mean, *squares = work->deviation;
    const float *values = work->values;
    uint16_t *halves = work->halves;
    Bits largest = {0};
    for (size_t frame = 0; frame < work->frames; frame++) {
        size_t i = 0;
        for (; i + WIDTH <= work->dims; i += WIDTH)
            NAME(round_some)(values + i, WIDTH, halves + i, sums + i, squares + i, &largest);
        if (i < work->dims)
            NAME(round_some)(values + i, work->dims - i, halves + i, sums + i, squares + i, &largest);
        values += work->dims, halves += work->dims;
    }
    double frames = work->frames ? (double)work->frames : 1;
    for (size_t i = 0; i < work->dims; i++) {
        double mean = sums[i] / frames, square = squares[i] / frames - mean * mean;
        work->mean[i] = mean;
        work->deviation[i] = square > 0 ? sqrt(square) : 0;
    }
    bool fits = true;
    for (int lane = 0; lane < WIDTH; lane++)
        fits &= largest[lane] < 0x477ff000; /* 65520, which would be rounded to 65536 */
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
