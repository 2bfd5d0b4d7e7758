/* The arguments of the arithmetic, and its builds for several instruction sets. */

#ifndef AALBERT_WORK_H
#define AALBERT_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A sparse matrix product: output f is the sum of weights over neighbouring inputs. */
typedef struct {
    size_t count;         /* outputs; 0 stands for the unit matrix */
    const int32_t *spans; /* of every output: its first input, and the number of inputs */
    const float *weights; /* of all outputs, one after another */
} Product;

/* A wave, its frames, and the computation of their features. */
typedef struct {
    const float *wave;
    size_t samples;
    size_t frames;
    ptrdiff_t first; /* where frame 0 begins; outside the wave, samples are reflected at its ends */
    size_t shift;
    const float *window;
    size_t length;       /* of the window */
    float pre_emphasis;  /* 0: none, and the frame's mean stays */
    const float *roots;  /* exp(-2 pi i k / fft_size) for all k, real and imaginary parts */
    size_t fft_size;     /* even, at least the length of the window */
    Product mel;         /* of the power spectrum */
    float floor, offset; /* then ln(max(x, floor) + offset) */
    Product cosine;      /* of the logarithms */
    size_t dims;
    float *out; /* (frames, dims) */
} Spectra;

/* float32 numbers to be rounded to float16. */
typedef struct {
    const float *values; /* (frames, dims) */
    size_t frames, dims;
    uint16_t *halves;  /* (frames, dims): the bits */
    double *mean;      /* (dims): of the rounded numbers */
    double *deviation; /* (dims): population deviation; both hold 0 before */
} Rounding;

/* One build of the arithmetic. All give the same bits. */
typedef struct {
    const char *name;
    size_t (*scratch_bytes)(const Spectra *);
    void (*compute_spectra)(const Spectra *, void *scratch); /* scratch: on a 64-byte boundary */
    bool (*round_to_half)(const Rounding *);                 /* false: a number does not fit */
    void (*scale_samples)(const int16_t *numbers, size_t count, float *out);
} Variant;

/* Writes those that this processor can run, the fastest first, and returns their number. */
enum { MOST_VARIANTS = 3 };
size_t find_variants(const Variant *found[MOST_VARIANTS]);

#endif
