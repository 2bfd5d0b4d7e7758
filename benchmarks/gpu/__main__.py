"""Everything that is claimed for a GPU, in one command that fits into minutes.

    python -m benchmarks.gpu --minutes 10 --out results [--features DATA] [--wheels FOLDER]

The stages run in the order of their worth, each in a process of its own with a share of the time;
one that fails says why, and the next one begins. Results are lines of JSON in `results.jsonl`,
written at once, beside `log.txt` and `trace.json.gz`; `python -m benchmarks.gpu.tables results`
makes tables of them. `--features` is a dataset of `aalbert prepare librispeech` with log-mel
features, to train on; without it, and for presets that read other features, speech is synthesised.
`--wheels` holds packages that may be missing; they go into a folder of their own. `--device cpu`
rehearses the same with tiny models. Needs no network; what is compiled needs the C compiler that
Triton starts. README.md in the folder above shows how to bring all that to a machine and the
results back.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu.context import Context, append_line
from benchmarks.gpu.runner import Stage, run_stages
from benchmarks.gpu.wheels import install, missing_wheels

ROOT = Path(__file__).resolve().parents[2]
# The weights are shares of the time, of work on a GPU and in a rehearsal. The last stage gets all
# that is left.
STAGES = (
    Stage("machine", "benchmarks.gpu.machine", 20, 10),
    Stage("tests", "benchmarks.gpu.marked_tests", 100, 14),
    Stage("features", "benchmarks.gpu.features", 40, 18),
    Stage("agreement", "benchmarks.gpu.agreement", 45, 24),
    Stage("steps", "benchmarks.gpu.steps", 230, 20),
    Stage("attention", "benchmarks.gpu.attention", 15, 5),
    Stage("loading", "benchmarks.gpu.loading", 35, 16),
    Stage("resuming", "benchmarks.gpu.resuming", 70, 45),
    Stage("profile", "benchmarks.gpu.profiling", 40, 8),
    Stage("training", "benchmarks.gpu.training", 100, 20),
)


def main() -> int:
    """Install what is missing, run the stages, and return 1 if one of them failed."""
    started = time.time()
    # Ended from outside, it still ends its stage and removes its folder.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--features", type=Path, help="a prepared dataset with log-mel features")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels")
    parser.add_argument("--probe", default="librispeech-speaker", help="a downstream task")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the probe, such as labels.alignments=FILE",
    )
    names = [stage.name for stage in STAGES]
    parser.add_argument("--stages", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if any(options.out.iterdir()):
        parser.error(f"{options.out} is not empty: name another folder")
    with tempfile.TemporaryDirectory(prefix="aalbert-gpu-") as folder:
        work = Path(folder)
        context = Context(
            stage="",
            device=options.device,
            out=str(options.out.resolve()),
            work=folder,
            features=str(options.features.resolve()) if options.features else "",
            probe=options.probe,
            probe_settings=options.settings,
            ends=0.0,
        )
        wheels = missing_wheels(options.wheels) if options.wheels else []
        if wheels:
            install(wheels, work / "site")
        installed = {"stage": "wheels", "kind": "wheels", "installed": [w.name for w in wheels]}
        append_line(context.results, installed)
        chosen = [stage for stage in STAGES if stage.name in options.stages]
        ends = started + 60 * options.minutes
        failed = run_stages(chosen, context, environment(options.device, work / "site"), ends)
    print(f"== {len(chosen) - len(failed)} of {len(chosen)} stages done", *failed, flush=True)
    return 1 if failed else 0


def environment(device: str, site: Path) -> dict[str, str]:
    """Return the variables of a stage: our packages first; in a rehearsal no GPU, no compiler."""
    path = os.pathsep.join(filter(None, (str(site), str(ROOT), os.environ.get("PYTHONPATH"))))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        **({"CUDA_VISIBLE_DEVICES": "", "TORCH_COMPILE_DISABLE": "1"} if device == "cpu" else {}),
    }


if __name__ == "__main__":
    sys.exit(main())
