"""What reading a damaged `.npy` file may raise."""

from tokenize import TokenError

# NumPy parses the header as Python's text, and makes an array as large as it says.
NPY_ERRORS = (
    ValueError,
    TypeError,
    SyntaxError,
    TokenError,
    OverflowError,
    MemoryError,
    RecursionError,
)
