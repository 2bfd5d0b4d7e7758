"""What a stage of `python -m benchmarks.gpu` is given in tests."""

from pathlib import Path

from benchmarks.gpu.context import Context


def rehearsal_context(out: Path, work: Path) -> Context:
    """Return what a stage on the CPU is given, with synthetic speech and no probe."""
    return Context(
        stage="",
        device="cpu",
        out=str(out),
        work=str(work),
        features="",
        probe="",
        probe_settings=(),
        ends=0.0,
    )
