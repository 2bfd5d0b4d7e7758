import json
import re
import shlex
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aalbert.cli import main
from aalbert.commands.waves import wave_corpus
from aalbert.errors import ConfigError, InputError
from aalbert.models.downstream import DownstreamModel
from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Loader
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.train.downstream.build import build_setup
from aalbert.train.downstream.config import DownstreamConfig, LabelConfig, SplitConfig
from aalbert.train.downstream.phones import FrameLabels
from aalbert.train.downstream.run import start_downstream
from aalbert.train.recipes import read_task_recipe
from tests.encoders import save_encoder
from tests.examples import examples_of

QUICK = ["--set=epochs=2", "--set=prefetch=0", "--threads=1"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoders") / "tiny-hubert", "hubert")


@pytest.fixture(scope="module")
def corpus(voxceleb1_data: Path) -> Path:
    return voxceleb1_data.parent / "corpus"


@pytest.fixture(scope="module")
def run(
    encoder: Path, corpus: Path, voxceleb1_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run on the encoder; read only."""
    out = tmp_path_factory.mktemp("runs") / "hubert"
    command = ["downstream", "voxceleb1", "--data", str(voxceleb1_data), *QUICK]
    source = [f"--upstream=hf:{encoder}", "--corpus", str(corpus)]
    assert main([*command, *source, "--preset=superb", "--out", str(out)]) == 0
    return out


def test_a_run_names_its_encoder_and_holds_the_head_alone(
    run: Path, encoder: Path, corpus: Path
) -> None:
    record = json.loads((run / "run.json").read_text())
    assert record["upstream"] == f"hf:{encoder}" and record["corpus"] == str(corpus)
    assert record["upstream_software"].startswith("transformers ")
    model = DownstreamModel.from_pretrained(run)
    saved = json.loads((run / "export" / "config.json").read_text())["upstream"]
    assert saved["weights_xxh3"] == record["upstream_weights"]
    assert saved["parameters"] == record["upstream_parameters"] > 1_000
    assert set(model.state_dict()) == {f"head.{name}" for name in model.head.state_dict()}
    [*_, state] = sorted((run / "checkpoints").glob("*.ckpt"))
    kept = torch.load(state, weights_only=True)["state_dict"]
    assert kept and all(name.startswith("model.head.") for name in kept)
    card = (run / "export" / "README.md").read_text()
    assert "the weights of the head, without its upstream" in card and "It reads waves." in card
    # Nothing but `evaluate` opens it, so nothing else is promised.
    assert "`aalbert evaluate RUN` measures it" in card
    assert "aalbert.load" not in card and "_aalbert.py" not in card
    names = {path.name for path in (run / "export").iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md"}
    assert "auto_map" not in (run / "export" / "config.json").read_text()


def test_batches_of_waves_are_those_of_features_cropped_at_the_same_times(
    encoder: Path, corpus: Path, voxceleb1_data: Path
) -> None:
    dataset = Dataset(voxceleb1_data)
    config = read_task_recipe("voxceleb1", "superb")
    setup = build_setup(config, dataset, f"hf:{encoder}", wave_corpus(str(corpus)))
    settings = LoaderConfig(
        order=OrderConfig(frames_per_batch=200), crop_frames=50, prefetch=0, seed=3
    )
    rows = setup.splits.train
    features = list(Loader(Selection(dataset, rows), settings))
    waves = list(setup.inputs.loader(rows, settings))
    assert len(features) == len(waves) > 2
    for stored, batch in zip(features, waves, strict=True):
        assert torch.equal(stored.rows, batch.rows) and stored.real_frames == batch.real_frames
        assert batch.features.dtype == torch.float32
        assert (batch.lengths == 160 * stored.lengths).all()
        # A frame and a stretch of the wave are loud together.
        for place in range(len(batch.rows)):
            wave = batch.features[place, :, 0].reshape(-1, 160)
            loud = stored.features[place].float().mean(dim=1)
            energy = torch.log(wave.square().mean(dim=1) + 1e-6)
            assert float(torch.corrcoef(torch.stack([loud, energy]))[0, 1]) > 0.5


def test_waves_are_read_ahead_in_other_threads_in_the_same_order(
    encoder: Path, corpus: Path, voxceleb1_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_task_recipe("voxceleb1", "superb")
    place = wave_corpus(str(corpus))
    setup = build_setup(config, Dataset(voxceleb1_data), f"hf:{encoder}", place)
    order = OrderConfig(frames_per_batch=200)
    rows = setup.splits.train
    plain, ahead = (
        setup.inputs.loader(
            rows, LoaderConfig(order=order, crop_frames=50, prefetch=prefetch, seed=3)
        )
        for prefetch in (0, 2)
    )
    expected = [batch for _ in range(2) for batch in plain]
    readers: list[str] = []
    waves = setup.inputs.waves
    assert waves is not None
    read = waves.read

    def noting(row: int, part: slice, rate: int) -> NDArray[np.float32]:
        readers.append(threading.current_thread().name)
        return read(row, part, rate)

    monkeypatch.setattr(waves, "read", noting)
    batch = next(iter(ahead))
    ahead.close()
    # The batch that is asked for, and two ahead.
    assert len(batch.rows) < len(readers) <= sum(len(each.rows) for each in expected[:3])
    assert all(name.startswith("waves") for name in readers)
    ahead.position = 0
    for one, other in zip(expected, [batch for _ in range(2) for batch in ahead], strict=True):
        assert torch.equal(one.rows, other.rows) and torch.equal(one.features, other.features)
    ahead.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("waves")]


def test_a_recording_that_is_gone_is_an_error_of_the_loop_too(
    encoder: Path, corpus: Path, voxceleb1_data: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "copy"))
    config = read_task_recipe("voxceleb1", "superb")
    place = wave_corpus(str(copy))
    setup = build_setup(config, Dataset(voxceleb1_data), f"hf:{encoder}", place)
    loader = setup.inputs.loader(
        setup.splits.train, LoaderConfig(order=OrderConfig(frames_per_batch=200), prefetch=2)
    )
    shutil.rmtree(copy)
    with pytest.raises(InputError, match="copy has no recording of 24 of the 24 utterances of"):
        list(loader)
    loader.close()


def test_cached_states_give_the_same_training(
    run: Path, encoder: Path, corpus: Path, voxceleb1_data: Path, tmp_path: Path
) -> None:
    task = ["voxceleb1", "--data", str(voxceleb1_data), *QUICK, "--preset=superb"]
    command = ["sweep", *task]
    source = [f"--upstream=hf:{encoder}", "--corpus", str(corpus), "--cache-embeddings"]
    grid = ["--set=lr=1e-3,1e-2", "--out", str(tmp_path / "sweep")]
    assert main([*command, *source, *grid]) == 0
    assert len(list((tmp_path / "sweep" / "states").glob("*.npy"))) == 1
    # The same command continues: here there is nothing left to do.
    assert main([*command, *source, *grid]) == 0
    points = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["points"]
    assert len(points) == 2 and all(point["best"] for point in points)
    # Without crops both train on the same frames.
    heads = []
    for name, options in (("cached", source), ("computed", source[:-1])):
        whole = ["--set=crop_seconds=0", "--out", str(tmp_path / name)]
        assert main(["downstream", *task, *options, *whole]) == 0
        heads.append(DownstreamModel.from_pretrained(tmp_path / name).head.state_dict())
    assert heads[0].keys() == heads[1].keys()
    for name, tensor in heads[0].items():
        torch.testing.assert_close(tensor, heads[1][name], rtol=0, atol=0)


def test_runs_on_all_kinds_of_upstreams_are_compared(
    run: Path,
    encoder: Path,
    corpus: Path,
    voxceleb1_data: Path,
    speaker_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = [speaker_run, run]
    for name, options in (("logmel", []), ("untrained", ["--untrained"])):
        runs.append(tmp_path / name)
        source = ["--upstream=logmel"] if name == "logmel" else [f"--upstream=hf:{encoder}"]
        place = [] if name == "logmel" else ["--corpus", str(corpus)]
        command = ["downstream", "voxceleb1", "--data", str(voxceleb1_data), *QUICK, *place]
        assert main([*command, *source, *options, "--out", str(runs[-1])]) == 0
    capsys.readouterr()
    copies = [shutil.copytree(each, tmp_path / f"copy-{n}") for n, each in enumerate(runs)]
    assert main(["evaluate", *map(str, copies), "--json", "--threads=1"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["comparisons"]) == 3
    assert all(len(each["interval_95"]) == 2 for each in document["comparisons"])
    ours, foreign, plain, untrained = document["results"]
    assert foreign["upstream"] == f"hf:{encoder}" and foreign["states"] == 3
    assert foreign["frame_shift_ms"] == 20.0 and plain["frame_shift_ms"] == 10.0
    assert foreign["macs_per_second"] == untrained["macs_per_second"] > 0
    assert (foreign["pretraining_hours"], untrained["pretraining_hours"]) == (None, 0.0)
    assert len(foreign["layer_probes"]) == 3
    page = (copies[0] / "comparison.html").read_text()
    assert "hf:tiny-hubert" in page
    assert "hf:tiny-hubert, untrained" in page
    report = (copies[1] / "report.html").read_text()
    assert "of waves, every 20 ms" in report and "transformers " in report


def test_frames_of_an_encoder_have_phones_by_time(
    encoder: Path, librispeech_data: Path, alignments: Path
) -> None:
    config = DownstreamConfig(
        task="librispeech-phone",
        splits=SplitConfig(train="train-clean-100", dev="drawn", test="drawn"),
        labels=LabelConfig(alignments=str(alignments)),
        head=read_task_recipe("librispeech-phone", None).head,
        crop_seconds=0,
    )
    dataset = Dataset(librispeech_data)
    place = str(librispeech_data.parent / "corpus")
    setup = build_setup(config, dataset, f"hf:{encoder}", wave_corpus(place))
    rows = setup.splits.train[:3]
    [batch] = setup.inputs.loader(
        rows, LoaderConfig(order=OrderConfig(frames_per_batch=10_000), prefetch=0)
    )
    states, lengths = setup.model.states(batch.features, batch.lengths)
    counts = setup.inputs.frame_counts()
    assert lengths.tolist() == counts[batch.rows.numpy()].tolist()
    phones = dict(line.split(maxsplit=1) for line in alignments.read_text().splitlines())
    assert isinstance(setup.labels, FrameLabels)
    targets = setup.labels.targets(batch.rows, lengths, states[0])
    for row, length, found in zip(batch.rows.tolist(), lengths.tolist(), targets, strict=True):
        names = phones[dataset.key(row)].split()
        # Frames have their centres at 12.5, 32.5, 52.5 ms; a label lasts 10 ms.
        places = [int(12.5 + 20 * frame) // 10 for frame in range(length)]
        expected = [names[min(place, len(names) - 1)] for place in places]
        assert [setup.labels.names[each] for each in found[:length].tolist()] == expected


def test_an_interrupted_run_continues_to_the_same_result(
    run: Path, encoder: Path, corpus: Path, voxceleb1_data: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    weights = (run / "export" / "model.safetensors").read_bytes()
    shutil.rmtree(moved / "export")
    for path in (moved / "checkpoints").glob("step-00000002*"):
        path.unlink()
    assert main(["downstream", "voxceleb1", "--out", str(moved), "--resume"]) == 0
    assert (moved / "export" / "model.safetensors").read_bytes() == weights


def test_a_corpus_that_moved_is_named_anew_and_one_that_is_gone_is_an_error(
    encoder: Path,
    run: Path,
    corpus: Path,
    voxceleb1_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    gone = tmp_path / "gone"
    record = json.loads((moved / "run.json").read_text())
    (moved / "run.json").write_text(json.dumps({**record, "corpus": str(gone)}))
    assert main(["evaluate", str(moved), "--threads=1"]) == InputError.exit_code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        f"aalbert: there is no corpus at {gone}, whose waves are needed: name the corpus that it "
        "was prepared from with --corpus DIR"
    )
    assert main(["evaluate", str(moved), "--corpus", str(corpus), "--threads=1"]) == 0


def test_what_such_an_encoder_cannot_do_is_an_error_of_one_line(
    encoder: Path,
    run: Path,
    corpus: Path,
    voxceleb1_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["downstream", "voxceleb1", "--data", str(voxceleb1_data), "--threads=1"]
    out = ["--out", str(tmp_path / "out")]

    def refused(words: list[str], text: str) -> None:
        assert main(words) in (ConfigError.exit_code, InputError.exit_code)
        error = capsys.readouterr().err.splitlines()[-1]
        assert re.search(text, error), error

    named = f"--upstream=hf:{encoder}"
    refused(
        [*command, named, *out],
        f"hf:{encoder} reads waves: name the corpus that .* was prepared from with --corpus DIR",
    )
    refused(
        [*command, named, "--corpus", str(corpus), "--mode=fine-tuned", *out],
        "--mode fine-tuned trains an encoder, and --upstream hf:.* is used frozen",
    )
    refused(
        [*command, "--upstream=logmel", "--corpus", str(corpus), *out],
        "--corpus is for encoders that read waves, and --upstream logmel reads stored features",
    )
    assert not (tmp_path / "out").exists()
    wave = next(corpus.rglob("*.wav"))
    alone = f"{run}.* has its head on hf:.*, an encoder of another library whose weights it does"
    refused(["predict", str(run), str(wave)], alone)
    refused(["extract", str(wave), "--model", str(run), *out], alone)
    refused(["compare", str(run), str(wave), str(wave)], alone)
    refused(["inspect", str(run)], alone)
    refused(["export", str(run), "--to=onnx", *out], alone)
    head = (
        "holds a 'downstream' model, expected a 'pretrained' one: name a run of 'aalbert pretrain'"
    )
    refused(["convert", str(run), "--to=s3prl", *out], head)
    refused([*command, f"--upstream={run}", *out], head)
    refused(["sweep", *command[1:], f"--upstream={run}", "--set=seed=1,2", *out], head)
    refused(["pretrain", "--data", str(voxceleb1_data), "--from", str(run), *out], alone)
    refused(["push", str(run), "user/model"], alone)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_names_of_such_encoders_are_for_upstreams_alone(
    encoder: Path,
    corpus: Path,
    voxceleb1_data: Path,
    speaker_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = ["--out", str(tmp_path / "out")]

    def refused(words: list[str], text: str) -> None:
        assert main(words) in (ConfigError.exit_code, InputError.exit_code)
        error = capsys.readouterr().err.splitlines()[-1]
        assert re.search(text, error), error

    wave = str(next(corpus.rglob("*.wav")))
    for name in (f"hf:{encoder}", "s3prl:fbank"):
        text = f"{name} is an encoder of another library: 'aalbert downstream' and 'aalbert sweep'"
        refused(["pretrain", "--data", str(voxceleb1_data), "--from", name, *out], text)
        refused(["inspect", name], text)
        refused(["extract", wave, "--model", name, *out], text)
        refused(["predict", name, wave], text)
        refused(["compare", name, wave, wave], text)
        refused(["convert", name, *out], text)
        refused(["convert", name, "--to=s3prl", *out], text)
        refused(["export", name, "--to=onnx", *out], text)
        refused(["push", name, "user/model"], text)
    refused(
        ["downstream", "voxceleb1", "--data", str(voxceleb1_data), f"--upstream={encoder}", *out],
        f"{encoder} is a model that transformers saved: name it hf:{encoder}$",
    )
    refused(
        ["evaluate", str(speaker_run), "--corpus", str(corpus)],
        f"--corpus is for encoders that read waves, and {speaker_run} read stored features: leave",
    )
    assert not (tmp_path / "out").exists()


def test_the_example_of_the_page_runs(
    encoder: Path,
    librispeech_folder: Path,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    [code] = [each["code"] for each in examples_of("foreign.md") if each["language"] == "sh"]
    for name, place in (
        ("models/hubert", encoder),
        ("corpora/LibriSpeech", librispeech_folder),
        ("data/librispeech", prepared),
    ):
        shutil.copytree(place, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for line in code.replace("\\\n", "").splitlines():
        quick = ["--set=epochs=2"] if "downstream" in line else []
        assert main([*shlex.split(line)[1:], *quick]) == 0, line
    assert "hf:hubert" in capsys.readouterr().out
    assert Path("runs/logmel/comparison.html").is_file()


def test_a_head_on_such_an_encoder_needs_its_corpus_in_python_too(
    encoder: Path, voxceleb1_data: Path, tmp_path: Path
) -> None:
    config = read_task_recipe("voxceleb1", "superb")
    with pytest.raises(ConfigError, match="reads waves: name the corpus that"):
        start_downstream(config, voxceleb1_data, f"hf:{encoder}", tmp_path / "run")
