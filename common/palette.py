"""The colours of all figures and pages, those of pages in light and in dark."""

PAPER, INK, SOFT_INK = "#fff", "#1f2933", "#52606d"
# What is looked at, what stands behind it as an area or a row, and a second thing beside it.
ACCENT, ACCENT_AREA, ACCENT_ROW, CONTRAST = "#0b7285", "#99d5de", "#e6f4f6", "#c2410c"
WRONG = "#c92a2a"
# Data that only gives the background, and the lines of tables and grids.
QUIET, RULE = "#adb5bd", "#e4e7eb"
# What is only told apart: runs, classes, speakers.
SERIES = (
    *("#0b7285", "#c2410c", "#6741d9", "#2b8a3e", "#c2255c"),
    *("#a16207", "#1971c2", "#5c940d", "#862e9c", "#343a40"),
)

# The same of pages on which a browser asks for dark ones.
DARK_PAPER, DARK_INK, DARK_SOFT_INK = "#12181d", "#e4e9ee", "#a3b1bf"
DARK_ACCENT, DARK_ACCENT_ROW, DARK_CONTRAST, DARK_WRONG = "#4cc3d6", "#16343b", "#ff9a5c", "#ff8787"
DARK_QUIET, DARK_RULE = "#5c6770", "#2c363f"
DARK_SERIES = (
    *("#4cc3d6", "#ff9a5c", "#b197fc", "#69db7c", "#f783ac"),
    *("#e8c547", "#74c0fc", "#c0eb75", "#e599f7", "#ced4da"),
)

# Colour maps of matplotlib: of spectrograms and attention, of shares, of divergences.
INTENSITY_MAP, SHARE_MAP, DIVERGENCE_MAP = "magma", "GnBu", "GnBu_r"
