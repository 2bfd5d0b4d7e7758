/* The Python module aalbert.kernel.native: checks its arguments, then computes without the
 * GIL. Its functions are documented in native.pyi. Stable ABI of Python 3.11. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include "work.h"

#include <stdlib.h>
#include <string.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

enum { MOST_SAMPLES = INT32_MAX, MOST_FFT = 1 << 24, ALIGNMENT = 64 };

static const Variant *variants[MOST_VARIANTS], *chosen;
static size_t variant_count;

/* Raises ValueError unless a condition holds. */
static bool require(bool condition, const char *message)
{
    if (!condition && !PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, message);
    return condition;
}

/* Requirements on a buffer: its name, struct format, dimensions, and write access. */
typedef struct {
    const char *name;
    char format;
    int ndim;
    bool writable;
} Expected;

/* Gets a C-contiguous buffer as expected, or raises ValueError. */
static bool get_buffer(PyObject *object, const Expected *expected, Py_buffer *view)
{
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (expected->writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, view, flags)) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s must be a contiguous%s buffer", expected->name,
                     expected->writable ? ", writable" : "");
        return false;
    }
    const char *format = view->format ? view->format : "B";
    size_t itemsize = expected->format == 'h' || expected->format == 'e' ? 2
                      : expected->format == 'd'                          ? 8
                                                                         : 4;
    if (format[0] == expected->format && !format[1] && view->ndim == expected->ndim &&
        (size_t)view->itemsize == itemsize)
        return true;
    PyErr_Format(PyExc_ValueError, "%s must have format '%c' and %d dimensions, not '%s' and %d",
                 expected->name, expected->format, expected->ndim, format, view->ndim);
    PyBuffer_Release(view);
    return false;
}

/* Gets all buffers or none. */
static bool get_buffers(
    PyObject *const *objects, const Expected *expected, Py_buffer *views, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!get_buffer(objects[i], expected + i, views + i)) {
            while (i-- > 0)
                PyBuffer_Release(views + i);
            return false;
        }
    return true;
}

static void release(Py_buffer *views, size_t count)
{
    for (size_t i = 0; i < count; i++)
        PyBuffer_Release(views + i);
}

/* Checks that every span of a product lies within its inputs, and has its weights. */
static bool check_product(
    const Py_buffer *spans, const Py_buffer *weights, size_t inputs, Product *product)
{
    *product = (Product){(size_t)spans->shape[0], spans->buf, weights->buf};
    size_t total = 0;
    if (!require(spans->shape[1] == 2, "spans must be pairs of start and length"))
        return false;
    for (size_t i = 0; i < product->count; i++) {
        int32_t start = product->spans[2 * i], length = product->spans[2 * i + 1];
        if (!require(start >= 0 && length >= 0 && (size_t)start + (size_t)length <= inputs,
                     "a span reaches beyond what it weighs"))
            return false;
        total += (size_t)length;
    }
    return require(total == (size_t)weights->shape[0], "spans and weights do not belong together");
}

/* Checks that all frames lie within the wave and its two reflections. */
static bool check_framing(const Spectra *work, Py_ssize_t first, Py_ssize_t shift)
{
    if (!require(work->samples > 0 && work->samples <= MOST_SAMPLES &&
                     work->frames <= MOST_SAMPLES,
                 "wave and out must have 1 to 2**31 - 1 samples and frames") ||
        !require(first <= 0 && first > -(Py_ssize_t)work->samples && shift > 0 &&
                     shift <= MOST_SAMPLES,
                 "first must be at most 0 and within the reflected wave, shift above 0"))
        return false;
    int64_t samples = (int64_t)work->samples;
    int64_t last = first + ((int64_t)work->frames - 1) * shift + (int64_t)work->length - 1;
    return require(work->frames == 0 || last <= 2 * (samples - 1),
                   "frames reach beyond the reflected wave");
}

/* Fills in the work from its buffers, in the order of `spectra`'s arguments. */
static bool check_spectra(Spectra *work, const Py_buffer *views, Py_ssize_t first, Py_ssize_t shift)
{
    const Py_buffer *wave = views, *window = views + 1, *roots = views + 2, *out = views + 7;
    work->wave = wave->buf, work->samples = (size_t)wave->shape[0];
    work->window = window->buf, work->length = (size_t)window->shape[0];
    work->roots = roots->buf, work->fft_size = (size_t)roots->shape[0];
    work->out = out->buf, work->frames = (size_t)out->shape[0], work->dims = (size_t)out->shape[1];
    work->first = first, work->shift = (size_t)shift;
    size_t bins = work->fft_size / 2 + 1;
    if (!require(roots->shape[1] == 2 && work->fft_size >= 2 && work->fft_size % 2 == 0 &&
                     work->fft_size <= MOST_FFT,
                 "roots must be (fft_size, 2), for an even size") ||
        !require(work->length > 0 && work->length <= work->fft_size,
                 "window must have 1 to fft_size samples") ||
        !check_framing(work, first, shift) ||
        !check_product(views + 3, views + 4, bins, &work->mel))
        return false;
    size_t logarithms = work->mel.count ? work->mel.count : bins;
    return check_product(views + 5, views + 6, logarithms, &work->cosine) &&
           require(work->dims == (work->cosine.count ? work->cosine.count : logarithms),
                   "out must have a column for every feature");
}

/* Computes in its own scratch memory, so that threads share nothing. */
static bool run_spectra(const Spectra *work)
{
    const Variant *variant = chosen;
    char *memory = malloc(variant->scratch_bytes(work) + ALIGNMENT);
    if (memory == NULL) {
        PyErr_NoMemory();
        return false;
    }
    char *aligned = memory + (ALIGNMENT - (uintptr_t)memory % ALIGNMENT);
    Py_BEGIN_ALLOW_THREADS
    variant->compute_spectra(work, aligned);
    Py_END_ALLOW_THREADS
    free(memory);
    return true;
}

static PyObject *spectra(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"wave", "window", "roots", "mel_spans", "mel_weights",
                            "cosine_spans", "cosine_weights", "out", "first", "shift",
                            "pre_emphasis", "floor", "offset", NULL};
    static const Expected expected[] = {
        {"wave", 'f', 1, false}, {"window", 'f', 1, false}, {"roots", 'f', 2, false},
        {"mel_spans", 'i', 2, false}, {"mel_weights", 'f', 1, false},
        {"cosine_spans", 'i', 2, false}, {"cosine_weights", 'f', 1, false}, {"out", 'f', 2, true}};
    enum { COUNT = sizeof expected / sizeof *expected };
    PyObject *objects[COUNT];
    Py_buffer views[COUNT];
    Py_ssize_t first, shift;
    Spectra work;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "$OOOOOOOOnnfff", names, objects, objects + 1, objects + 2, objects + 3,
            objects + 4, objects + 5, objects + 6, objects + 7, &first, &shift, &work.pre_emphasis,
            &work.floor, &work.offset) ||
        !get_buffers(objects, expected, views, COUNT))
        return NULL;
    bool done = check_spectra(&work, views, first, shift) && run_spectra(&work);
    release(views, COUNT);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *round_to_half(PyObject *module, PyObject *args)
{
    static const Expected expected[] = {
        {"values", 'f', 2, false}, {"halves", 'e', 2, true}, {"statistics", 'd', 2, true}};
    PyObject *objects[3];
    Py_buffer views[3];
    (void)module;
    if (!PyArg_ParseTuple(args, "OOO", objects, objects + 1, objects + 2) ||
        !get_buffers(objects, expected, views, 3))
        return NULL;
    const Py_ssize_t *shape = views[0].shape;
    bool fits = false;
    if (require(views[1].shape[0] == shape[0] && views[1].shape[1] == shape[1],
                "halves must have the shape of values") &&
        require(views[2].shape[0] == 2 && views[2].shape[1] == shape[1],
                "statistics must be (2, dims)")) {
        double *mean = views[2].buf;
        Rounding work = {views[0].buf, (size_t)shape[0], (size_t)shape[1],
                         views[1].buf, mean, mean + shape[1]};
        memset(mean, 0, (size_t)views[2].len);
        Py_BEGIN_ALLOW_THREADS
        fits = chosen->round_to_half(&work);
        Py_END_ALLOW_THREADS
    }
    release(views, 3);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(fits);
}

static PyObject *scale_samples(PyObject *module, PyObject *args)
{
    static const Expected expected[] = {{"numbers", 'h', 1, false}, {"out", 'f', 1, true}};
    PyObject *objects[2];
    Py_buffer views[2];
    (void)module;
    if (!PyArg_ParseTuple(args, "OO", objects, objects + 1) ||
        !get_buffers(objects, expected, views, 2))
        return NULL;
    bool equal = require(views[0].shape[0] == views[1].shape[0], "out must be as long as numbers");
    if (equal) {
        Py_BEGIN_ALLOW_THREADS
        chosen->scale_samples(views[0].buf, (size_t)views[0].shape[0], views[1].buf);
        Py_END_ALLOW_THREADS
    }
    release(views, 2);
    return equal ? Py_NewRef(Py_None) : NULL;
}

static PyObject *select_variant(PyObject *module, PyObject *args)
{
    const char *name;
    (void)module;
    if (!PyArg_ParseTuple(args, "s", &name))
        return NULL;
    for (size_t i = 0; i < variant_count; i++)
        if (strcmp(variants[i]->name, name) == 0) {
            chosen = variants[i];
            Py_RETURN_NONE;
        }
    return PyErr_Format(PyExc_ValueError, "this processor has no variant '%s'", name);
}

static PyObject *list_variants(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    PyObject *names = PyTuple_New((Py_ssize_t)variant_count);
    for (size_t i = 0; names != NULL && i < variant_count; i++) {
        PyObject *name = PyUnicode_FromString(variants[i]->name);
        if (name == NULL || PyTuple_SetItem(names, (Py_ssize_t)i, name))
            Py_CLEAR(names);
    }
    return names;
}

/* By default glibc returns large blocks to the system when they are freed, and the next ones are
 * mapped and cleared page by page. Other allocators are left as they are. */
static PyObject *keep_freed_memory(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
#if defined(__GLIBC__)
    mallopt(M_MMAP_THRESHOLD, 32 << 20); /* the highest there is */
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
#endif
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"spectra", (PyCFunction)(void (*)(void))spectra, METH_VARARGS | METH_KEYWORDS,
     "Write the features of a wave."},
    {"round_to_half", round_to_half, METH_VARARGS, "Round float32 to float16, with statistics."},
    {"scale_samples", scale_samples, METH_VARARGS, "Write 16-bit samples as float32."},
    {"keep_freed_memory", keep_freed_memory, METH_NOARGS, "Let malloc use large blocks again."},
    {"select_variant", select_variant, METH_VARARGS, "Compute with another instruction set."},
    {"variants", list_variants, METH_NOARGS, "Return the instruction sets there are."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "aalbert.kernel.native", "The arithmetic of `prepare`.", -1, methods,
    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_native(void)
{
    variant_count = find_variants(variants);
    chosen = variants[0];
    return PyModule_Create(&definition);
}
