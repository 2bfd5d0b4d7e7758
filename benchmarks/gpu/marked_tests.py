"""The stage `tests`: all tests marked gpu. A rehearsal only collects them."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from benchmarks.gpu.context import Context

TESTS = Path(__file__).resolve().parents[2] / "tests"
MARK = "pytest.mark.gpu"


def run(context: Context) -> None:
    """Run the marked tests, and write their numbers and every one that was not passed."""
    # Only these files: others may import packages that are not there.
    files = sorted(path for path in TESTS.rglob("test_*.py") if MARK in path.read_text("utf-8"))
    report = Path(context.work) / "tests.xml"
    # Warnings of another version of PyTorch are no errors here.
    options = ["-m", "gpu", "-v", "-W", "default", "-p", "no:cacheprovider"]
    if context.rehearsal:
        options.append("--collect-only")
    command = [sys.executable, "-P", "-m", "pytest", *options, f"--junitxml={report}"]
    done = subprocess.run([*command, *map(str, files)], cwd=TESTS.parent)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for case in ElementTree.parse(report).iter("testcase") if report.is_file() else ():
        problem = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
        counts[outcome_of(problem)] += 1
        if problem is not None:
            context.write(
                kind="test",
                test=f"{case.get('classname')}::{case.get('name')}",
                outcome=outcome_of(problem),
                message=problem.get("message"),
            )
    context.write(kind="tests", files=len(files), collected_only=context.rehearsal, **counts)
    if done.returncode:
        sys.exit(f"pytest ended with {done.returncode}")


def outcome_of(problem: ElementTree.Element | None) -> str:
    """Return the outcome of a test from what its report holds."""
    if problem is None:
        return "passed"
    return "skipped" if problem.tag == "skipped" else "failed"
