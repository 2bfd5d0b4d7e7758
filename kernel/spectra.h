/* Waves to features, WIDTH frames at a time, one in every lane. Included by variants.c only.
 *
 * A spectrum is an array of lanes: value i of all the frames of a batch is element i. Complex
 * numbers take two elements, the real part first. */

/* The memory of a batch. `a` and `b` hold fft_size values each; the FFT alternates between them. */
#undef Batch
#define Batch NAME(batch)
typedef struct {
    Lanes *a, *b;
    Lanes *butterfly; /* inputs and outputs of the largest */
    Lanes *power;     /* fft_size / 2 + 1 */
    Lanes *mel, *cosine;
    float *edges; /* frames that reach beyond the wave, completed: (WIDTH, length) */
} Batch;

static size_t NAME(scratch_bytes)(const Spectra *work)
{
    size_t numbers = 4 * work->fft_size + work->fft_size / 2 + 1;
    return (numbers + work->mel.count + work->cosine.count + work->length) * sizeof(Lanes);
}

/* Divides memory of that many bytes among the parts of a batch. */
static void NAME(lay_out)(const Spectra *work, Batch *batch, Lanes *memory)
{
    batch->a = memory;
    batch->b = batch->a + work->fft_size;
    batch->butterfly = batch->b + work->fft_size;
    batch->power = batch->butterfly + 2 * work->fft_size;
    batch->mel = batch->power + work->fft_size / 2 + 1;
    batch->cosine = batch->mel + work->mel.count;
    batch->edges = (float *)(batch->cosine + work->cosine.count);
}

/* The index of sample t of a wave that is reflected at its ends. */
INLINE size_t NAME(reflect)(ptrdiff_t t, size_t samples)
{
    ptrdiff_t last = (ptrdiff_t)samples - 1;
    return (size_t)(t < 0 ? -t : t > last ? 2 * last - t : t);
}

/* Returns the samples of a frame; those of a frame over an edge are copied to `completed`. */
static const float *NAME(find_frame)(const Spectra *work, size_t frame, float *completed)
{
    ptrdiff_t start = work->first + (ptrdiff_t)(frame * work->shift);
    if (start >= 0 && (size_t)start + work->length <= work->samples)
        return work->wave + start;
    for (size_t i = 0; i < work->length; i++)
        completed[i] = work->wave[NAME(reflect)(start + (ptrdiff_t)i, work->samples)];
    return completed;
}

/* Writes the frames from number `start` on, not yet windowed; the last one is repeated. */
TARGET static void NAME(gather)(const Spectra *work, size_t start, const Batch *batch, Lanes *to)
{
    const float *frames[WIDTH];
    for (size_t lane = 0; lane < WIDTH; lane++) {
        size_t frame = start + lane < work->frames ? start + lane : work->frames - 1;
        frames[lane] = NAME(find_frame)(work, frame, batch->edges + lane * work->length);
    }
    size_t i = 0;
    for (; i + WIDTH <= work->length; i += WIDTH) {
        Lanes rows[WIDTH];
        UNROLL for (int lane = 0; lane < WIDTH; lane++) rows[lane] = NAME(load)(frames[lane] + i);
        NAME(transpose)(rows);
        UNROLL for (int lane = 0; lane < WIDTH; lane++) to[i + (size_t)lane] = rows[lane];
    }
    for (; i < work->length; i++)
        for (size_t lane = 0; lane < WIDTH; lane++)
            to[i][lane] = frames[lane][i];
}

/* Windows the frames. With pre-emphasis as Kaldi does it: the mean of each frame is removed,
 * then y[i] = x[i] - pre_emphasis x[i - 1], with x[0] before x[0].
 *
 * The mean is that of differences from the first sample, which are 0 for a constant wave. */
TARGET static void NAME(apply_window)(const Spectra *work, Lanes *frames)
{
    const float *window = work->window;
    if (work->pre_emphasis == 0) {
        for (size_t i = 0; i < work->length; i++)
            frames[i] *= window[i];
    } else {
        Lanes first = frames[0], sums[4] = {{0}};
        for (size_t i = 0; i < work->length; i++) {
            frames[i] -= first;
            sums[i % 4] += frames[i];
        }
        Lanes mean = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / (float)work->length;
        Lanes before = frames[0] - mean;
        for (size_t i = 0; i < work->length; i++) {
            Lanes centred = frames[i] - mean;
            frames[i] = (centred - work->pre_emphasis * before) * window[i];
            before = centred;
        }
    }
    for (size_t i = work->length; i < work->fft_size; i++)
        frames[i] = (Lanes){0};
}

/* The discrete Fourier transform of 2 or 4 complex numbers. */
TARGET INLINE void NAME(even_butterfly)(size_t radix, const Lanes *x, Lanes *y)
{
    for (int part = 0; part < 2; part++) {
        if (radix == 2) {
            y[part] = x[part] + x[2 + part];
            y[2 + part] = x[part] - x[2 + part];
        } else {
            Lanes sum = x[part] + x[4 + part], sum_odd = x[2 + part] + x[6 + part];
            y[part] = sum + sum_odd;
            y[4 + part] = sum - sum_odd;
        }
    }
    if (radix == 4) {
        Lanes re = x[0] - x[4], im = x[1] - x[5], odd_re = x[2] - x[6], odd_im = x[3] - x[7];
        y[2] = re + odd_im, y[3] = im - odd_re;
        y[6] = re - odd_im, y[7] = im + odd_re;
    }
}

/* The same for an odd number, by sums and differences of x[j] and x[radix - j], whose factors
 * are only cosines and sines. The roots of the radix are `step` roots apart. */
TARGET INLINE void NAME(odd_butterfly)(
    size_t radix, Lanes *restrict x, Lanes *restrict y, const float *restrict roots, size_t step)
{
    size_t half = radix / 2;
    y[0] = x[0], y[1] = x[1];
    UNROLL for (size_t j = 1; j <= half; j++)
    {
        Lanes re = x[2 * j], im = x[2 * j + 1], *mirror = x + 2 * (radix - j);
        x[2 * j] += mirror[0], x[2 * j + 1] += mirror[1];
        mirror[0] = re - mirror[0], mirror[1] = im - mirror[1];
        y[0] += x[2 * j], y[1] += x[2 * j + 1];
    }
    UNROLL for (size_t k = 1; k <= half; k++)
    {
        Lanes even_re = x[0], even_im = x[1], odd_re = {0}, odd_im = {0};
        size_t angle = 0;
        UNROLL for (size_t j = 1; j <= half; j++)
        {
            angle = angle + k < radix ? angle + k : angle + k - radix;
            const float *root = roots + 2 * step * angle;
            const Lanes *mirror = x + 2 * (radix - j);
            even_re += root[0] * x[2 * j], even_im += root[0] * x[2 * j + 1];
            odd_re += root[1] * mirror[0], odd_im += root[1] * mirror[1];
        }
        y[2 * k] = even_re - odd_im, y[2 * k + 1] = even_im + odd_re;
        y[2 * (radix - k)] = even_re + odd_im, y[2 * (radix - k) + 1] = even_im - odd_re;
    }
}

/* One pass of Stockham's FFT (decimation in frequency): `groups` times `stride` butterflies,
 * whose outputs are multiplied by their twiddle factors. */
TARGET INLINE void NAME(pass)(
    const Spectra *work, size_t radix, size_t groups, size_t stride, const Lanes *restrict from,
    Lanes *restrict to, Lanes *restrict x)
{
    Lanes *y = x + 2 * radix;
    for (size_t group = 0; group < groups; group++)
        for (size_t i = 0; i < stride; i++) {
            UNROLL for (size_t j = 0; j < radix; j++)
            {
                const Lanes *input = from + 2 * (i + stride * (group + groups * j));
                x[2 * j] = input[0], x[2 * j + 1] = input[1];
            }
            if (radix % 2)
                NAME(odd_butterfly)(radix, x, y, work->roots, work->fft_size / radix);
            else
                NAME(even_butterfly)(radix, x, y);
            UNROLL for (size_t k = 0; k < radix; k++)
            {
                const float *root = work->roots + 4 * stride * group * k;
                Lanes *output = to + 2 * (i + stride * (radix * group + k));
                Lanes re = y[2 * k], im = y[2 * k + 1];
                bool turned = k > 0 && group > 0;
                output[0] = turned ? re * root[0] - im * root[1] : re;
                output[1] = turned ? re * root[1] + im * root[0] : im;
            }
        }
}

/* The largest of the radices 4, 2, 3, 5 that divides a size, or its smallest prime. */
static size_t NAME(choose_radix)(size_t size)
{
    if (size % 4 == 0)
        return 4;
    size_t radix = 2;
    while (size % radix)
        radix++;
    return radix;
}

/* Transforms the fft_size / 2 complex numbers in `a`; returns where the result is. */
TARGET static Lanes *NAME(transform)(const Spectra *work, const Batch *batch)
{
    Lanes *from = batch->a, *to = batch->b, small[20];
    size_t size = work->fft_size / 2, stride = 1;
    while (size > 1) {
        size_t radix = NAME(choose_radix)(size), groups = size / radix;
        if (radix == 4)
            NAME(pass)(work, 4, groups, stride, from, to, small);
        else if (radix == 2)
            NAME(pass)(work, 2, groups, stride, from, to, small);
        else if (radix == 3)
            NAME(pass)(work, 3, groups, stride, from, to, small);
        else if (radix == 5)
            NAME(pass)(work, 5, groups, stride, from, to, small);
        else
            NAME(pass)(work, radix, groups, stride, from, to, batch->butterfly);
        Lanes *result = to;
        to = from, from = result;
        size = groups, stride *= radix;
    }
    return from;
}

/* The power spectrum of real numbers from the transform z of them taken as complex ones, even
 * ones as real parts: X[k] = E + exp(-2 pi i k / fft_size) O, X[half - k] = conj(E - ...), with
 * 2 E = z[k] + conj z[half - k] and 2i O = z[k] - conj z[half - k]. */
TARGET static void NAME(measure_power)(const Spectra *work, const Lanes *z, Lanes *power)
{
    size_t half = work->fft_size / 2;
    Lanes sum = z[0] + z[1], difference = z[0] - z[1];
    power[0] = sum * sum, power[half] = difference * difference;
    for (size_t k = 1; 2 * k <= half; k++) {
        const Lanes *low = z + 2 * k, *high = z + 2 * (half - k);
        const float *root = work->roots + 2 * k;
        Lanes even_re = low[0] + high[0], even_im = low[1] - high[1];
        Lanes odd_re = low[1] + high[1], odd_im = high[0] - low[0];
        Lanes re = root[0] * odd_re - root[1] * odd_im, im = root[0] * odd_im + root[1] * odd_re;
        Lanes plus_re = even_re + re, plus_im = even_im + im;
        Lanes minus_re = even_re - re, minus_im = even_im - im;
        power[half - k] = 0.25f * (minus_re * minus_re + minus_im * minus_im);
        power[k] = 0.25f * (plus_re * plus_re + plus_im * plus_im);
    }
}

/* Returns the product of a matrix and the values, in `out`, or the values where there is none. */
TARGET static Lanes *NAME(multiply)(const Product *product, Lanes *values, Lanes *out)
{
    const float *weights = product->weights;
    for (size_t i = 0; i < product->count; i++) {
        const Lanes *input = values + product->spans[2 * i];
        size_t length = (size_t)product->spans[2 * i + 1];
        Lanes sum = {0};
        for (size_t j = 0; j < length; j++)
            sum += weights[j] * input[j];
        out[i] = sum;
        weights += length;
    }
    return product->count ? out : values;
}

/* Writes one row per frame. */
TARGET static void NAME(scatter)(
    const Lanes *values, size_t dims, float *restrict out, size_t frames)
{
    size_t i = 0;
    for (; i + WIDTH <= dims; i += WIDTH) {
        Lanes rows[WIDTH];
        UNROLL for (int lane = 0; lane < WIDTH; lane++) rows[lane] = values[i + (size_t)lane];
        NAME(transpose)(rows);
        for (size_t frame = 0; frame < frames; frame++)
            NAME(store)(out + frame * dims + i, rows[frame]);
    }
    for (; i < dims; i++)
        for (size_t frame = 0; frame < frames; frame++)
            out[frame * dims + i] = values[i][frame];
}

TARGET static void NAME(compute_spectra)(const Spectra *work, void *scratch)
{
    Batch batch;
    NAME(lay_out)(work, &batch, scratch);
    size_t logarithms = work->mel.count ? work->mel.count : work->fft_size / 2 + 1;
    for (size_t start = 0; start < work->frames; start += WIDTH) {
        NAME(gather)(work, start, &batch, batch.a);
        NAME(apply_window)(work, batch.a);
        NAME(measure_power)(work, NAME(transform)(work, &batch), batch.power);
        Lanes *values = NAME(multiply)(&work->mel, batch.power, batch.mel);
        for (size_t i = 0; i < logarithms; i++) {
            Lanes raised = NAME(choose)(values[i] < work->floor,
                                        (Lanes){0} + work->floor, values[i]);
            values[i] = NAME(logarithm)(raised + work->offset);
        }
        values = NAME(multiply)(&work->cosine, values, batch.cosine);
        size_t left = work->frames - start;
        NAME(scatter)(values, work->dims, work->out + start * work->dims,
                      left < WIDTH ? left : WIDTH);
    }
}
