"""The arithmetic of `prepare` in C: spectra, float16, 16-bit samples. `native` is its module."""
