"""The stage `tests`: all tests marked gpu. A rehearsal only collects them."""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.gpu.context import Context

ROOT = Path(__file__).resolve().parents[2]
MARK = "pytest.mark.gpu"


class Reporter:
    """Writes a line for every test as it ends, and counts them by outcome."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.counts = Counter(passed=0, failed=0, skipped=0)
        self.selected = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note how many tests are marked."""
        self.selected = len(session.items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the outcome of a test: that of its call, or of a part of it that was not passed."""
        if report.when == "call" or not report.passed:
            self.counts[report.outcome] += 1
            message = None if report.passed else str(report.longrepr)[-2000:]
            self.context.write(
                kind="test",
                test=report.nodeid,
                outcome=report.outcome,
                seconds=round(report.duration, 2),
                message=message,
            )


def run(context: Context) -> None:
    """Run the marked tests, and write their numbers and each as it ends."""
    os.chdir(ROOT)
    # Only these files: others may import packages that are not there.
    files = sorted(
        path for path in ROOT.glob("tests/**/test_*.py") if MARK in path.read_text("utf-8")
    )
    # Warnings of another version of PyTorch are no errors here.
    options = ["-m", "gpu", "-v", "-W", "default", "-p", "no:cacheprovider"]
    if context.rehearsal:
        options.append("--collect-only")
    reporter = Reporter(context)
    code = pytest.main([*options, *map(str, files)], plugins=[reporter])
    context.write(
        kind="tests",
        files=len(files),
        selected=reporter.selected,
        collected_only=context.rehearsal,
        **reporter.counts,
    )
    if code:
        sys.exit(f"pytest ended with {code}")
