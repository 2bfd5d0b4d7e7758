"""Evaluation: predictions on the test part, metrics with intervals, comparisons, the report."""
