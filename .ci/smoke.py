"""Try an installed package, without its source: `python -I .ci/smoke.py`.

The kernel computes, presets and templates are there, and the command line leads from recordings to
the report of a task.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import aalbert
from aalbert.cli import main
from aalbert.kernel import native
from aalbert.pipeline.corpora.synthesis import write_librispeech


def run(*words: str) -> None:
    """Run a command, which must succeed."""
    print("aalbert", *words, flush=True)
    code = main(words)
    if code:
        sys.exit(f"aalbert {words[0]} ended with {code}")


if __name__ == "__main__":
    place = Path(aalbert.__file__).resolve()
    if not place.is_relative_to(Path(sys.prefix).resolve()):
        sys.exit(f"{place} is not the installed package")
    print(f"aalbert {aalbert.__version__} in {place.parent}, kernel {native.variants()}")
    with TemporaryDirectory() as folder:
        corpus = f"{folder}/LibriSpeech"
        write_librispeech(Path(corpus), speakers=3, utterances_per_speaker=12, seed=1)
        run("config", "presets")
        run("prepare", "librispeech", corpus, "--out", f"{folder}/data")
        run("shards", "verify", f"{folder}/data")
        data = ("--data", f"{folder}/data")
        quick = ("--set", "steps=4", "--set", "data.batch_seconds=30")
        pretrained = f"{folder}/runs/pretrain"
        run("pretrain", "--preset", "tiny", *data, *quick, "--out", pretrained)
        speaker = f"{folder}/runs/speaker"
        upstream = ("--upstream", pretrained, "--set", "epochs=1")
        run("downstream", "librispeech-speaker", *data, *upstream, "--out", speaker)
        run("evaluate", speaker)
        if not Path(speaker, "report.html").is_file():
            sys.exit("there is no report")
    print("smoke test passed")
