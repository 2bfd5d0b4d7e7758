/* The arithmetic, built for several instruction sets, and the choice among them.
 *
 * Every lane of a vector does what a scalar would, in the same order, and nothing is contracted
 * to fused multiplications (-ffp-contract=off). So width and instruction set change only the
 * speed, not a bit of the results. */

#include "work.h"

#include <math.h>
#include <string.h>

#define JOIN_(name, suffix) name##_##suffix
#define JOIN(name, suffix) JOIN_(name, suffix)
#define NAME(name) JOIN(name, SUFFIX)
#define TEXT_(suffix) #suffix
#define TEXT(suffix) TEXT_(suffix)
#define INLINE static inline __attribute__((always_inline))

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* 4 lanes are the vectors that every processor has: SSE2 or NEON. */
#define SUFFIX baseline
#define WIDTH 4
#define TARGET
#include "lanes.h"
#include "spectra.h"
#include "samples.h"

#if defined(__x86_64__)
#define SUFFIX avx2
#define WIDTH 8
#define TARGET __attribute__((target("avx2")))
#include "lanes.h"
#include "spectra.h"
#include "samples.h"

#define SUFFIX avx512
#define WIDTH 16
#define TARGET __attribute__((target("avx512f")))
#include "lanes.h"
#include "spectra.h"
#include "samples.h"
#endif

size_t find_variants(const Variant *found[MOST_VARIANTS])
{
    size_t count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        found[count++] = &variant_avx512;
    if (__builtin_cpu_supports("avx2"))
        found[count++] = &variant_avx2;
#endif
    found[count++] = &variant_baseline;
    return count;
}
