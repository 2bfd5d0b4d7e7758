"""The colours of all figures and pages; curves that are only told apart take matplotlib's own."""

PAPER, INK, SOFT_INK = "#fff", "#1f2933", "#52606d"
# What is looked at, what stands behind it as an area or a row, and a second thing beside it.
ACCENT, ACCENT_AREA, ACCENT_ROW, CONTRAST = "#0b7285", "#99d5de", "#e6f4f6", "#c2410c"
WRONG = "#c92a2a"
# Data that only gives the background, and the lines of tables and grids.
QUIET, RULE = "#adb5bd", "#e4e7eb"

# Colour maps of matplotlib: of spectrograms and attention, of shares, of divergences.
INTENSITY_MAP, SHARE_MAP, DIVERGENCE_MAP = "magma", "GnBu", "GnBu_r"
