import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from aalbert.cli import main
from aalbert.errors import InputError, IntegrityError
from aalbert.shards import Dataset
from aalbert.shards.format.feature_settings import FbankSettings, MfccSettings
from aalbert.shards.format.manifest import read_manifest
from aalbert.shards.format.wave_settings import WaveSettings
from aalbert.shards.reading.place import LocalPlace
from aalbert.shards.views.info import describe, describe_feature, skipped_by_reason
from aalbert.shards.views.pictures import duration_figure, save, speaker_figure, utterance_figure
from aalbert.shards.views.show import row_of
from aalbert.shards.views.stats import SpeakerTotals, survey

PNG = b"\x89PNG\r\n\x1a\n"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_description_counts_what_the_folder_holds(prepared: Path) -> None:
    document = describe(prepared)
    files = [path for path in prepared.rglob("*") if path.is_file()]
    manifest = prepared / "manifest.json"
    assert document["bytes"] == sum(path.stat().st_size for path in files if path != manifest)
    assert document["splits"].keys() == {"dev-clean", "train-clean-100"}
    for name, split in document["splits"].items():
        shards = list((prepared / name).glob("*.tar"))
        assert split["shards"] == len(shards)
        assert split["bytes"] == sum(path.stat().st_size for path in shards)
    assert document["utterances"] == 30
    assert (document["skipped"], document["skipped_by_reason"]) == (0, {})


def test_settings_that_are_not_the_defaults_are_told_apart() -> None:
    settings = MfccSettings(cepstra=20, wave=WaveSettings(gain_db=6.0))
    feature = describe_feature(settings)
    assert feature["changed"] == ["cepstra", "wave.gain_db"]
    assert feature["settings"]["wave.gain_db"] == 6.0
    assert feature["dims"] == 20
    assert describe_feature(FbankSettings())["changed"] == []


def test_skipped_inputs_are_counted_by_reason(dataset_copy: Path) -> None:
    reasons = ["too short: 3 ms", "too short: 9 ms", "it is empty"]
    lines = [json.dumps({"source": "x.flac", "reason": reason}) for reason in reasons]
    (dataset_copy / "skipped.jsonl").write_text("\n".join(lines))
    manifest = replace(read_manifest(dataset_copy), skipped=3)
    place = LocalPlace(dataset_copy)
    counts = skipped_by_reason(place, manifest)
    assert list(counts.items()) == [("too short", 2), ("it is empty", 1)]
    (dataset_copy / "skipped.jsonl").write_text("{")
    with pytest.raises(IntegrityError, match=r"skipped\.jsonl:1 is damaged"):
        skipped_by_reason(place, manifest)
    (dataset_copy / "skipped.jsonl").unlink()
    with pytest.raises(IntegrityError, match=r"skipped\.jsonl is missing; restore it"):
        skipped_by_reason(place, manifest)


def test_info_names_splits_features_and_fingerprint(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shards", "info", str(prepared)]) == 0
    text = capsys.readouterr().out
    manifest = read_manifest(prepared)
    for expected in (manifest.fingerprint, "train-clean-100", "logmel: 80 numbers per frame"):
        assert expected in text
    assert main(["shards", "info", str(prepared), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == describe(prepared)


def test_verify_counts_files_and_bytes_of_a_whole_dataset(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [len(content) for content in tree(prepared).values()]
    assert main(["shards", "verify", str(prepared)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{len(sizes)} files, {sum(sizes):,} bytes: all as written (")
    assert out.endswith(" GB/s)\n")


def test_verify_prints_every_problem_and_ends_with_the_code_of_damaged_data(
    dataset_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dataset_copy / "README.md").unlink()
    (dataset_copy / "notes.txt").touch()
    assert main(["shards", "verify", str(dataset_copy)]) == 4
    captured = capsys.readouterr()
    missing = f"{dataset_copy / 'README.md'}: is missing"
    extra = f"{dataset_copy / 'notes.txt'}: does not belong to the dataset: delete or move it"
    assert captured.out.splitlines() == [missing, extra]
    assert captured.err.splitlines()[-1] == (
        f"aalbert: {dataset_copy} has 2 problems, the first: {missing}; "
        f"restore what is damaged, or delete {dataset_copy} and prepare the data again"
    )
    assert main(["shards", "verify", str(dataset_copy), "--json"]) == 4
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [problem["what"] for problem in problems] == [
        "is missing",
        "does not belong to the dataset: delete or move it",
    ]


@pytest.mark.parametrize("command", ["info", "verify", "stats", "show KEY"])
def test_a_folder_that_is_not_there_is_one_line(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *key = command.split()
    assert main(["shards", name, str(tmp_path / "nowhere"), *key]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "make it with 'aalbert prepare" in captured.err


def test_show_prints_what_is_known_and_draws_the_features(
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = Dataset(prepared)
    key = str(dataset.column("key")[3])
    assert main(["shards", "show", str(prepared), key, "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    row = dataset.table.slice(3, 1).to_pylist()[0]
    assert about["duration_s"] == row["samples"] / 16_000
    assert (about["text"], about["speaker"]) == (row["text"], row["speaker"])
    assert about["features"]["logmel"]["offset"] == row["logmel_offset"]
    assert (prepared / about["shard"]).is_file()
    assert (tmp_path / f"{key}.png").read_bytes().startswith(PNG)
    assert main(["shards", "show", str(prepared), key, "--out", "other.png"]) == 0
    assert "picture             other.png" in capsys.readouterr().out
    assert (tmp_path / "other.png").is_file()


def test_a_picture_of_another_kind_than_png_is_refused(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = str(Dataset(prepared).column("key")[0])
    picture = tmp_path / "picture.pdf"
    assert main(["shards", "show", str(prepared), key, "--out", str(picture)]) == 2
    assert capsys.readouterr().err == (
        f"aalbert: --out {picture}: pictures are PNG, the name must end in .png\n"
    )
    assert not picture.exists()


def test_verify_of_a_changed_manifest_says_so_once_and_names_the_way_out(
    dataset_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = dataset_copy / "manifest.json"
    manifest.write_text(manifest.read_text("utf-8") + " ")
    what = "was changed after it was written (without it no other file can be checked)"
    assert main(["shards", "verify", str(dataset_copy)]) == 4
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"aalbert: {dataset_copy} has 1 problem, the first: {manifest}: {what}; "
        f"restore what is damaged, or delete {dataset_copy} and prepare the data again"
    )
    assert main(["shards", "info", str(dataset_copy)]) == 4
    assert capsys.readouterr().err == (
        f"aalbert: {manifest} was changed after it was written; "
        f"restore it, or delete {dataset_copy} and prepare the data again\n"
    )


def test_an_unknown_key_is_answered_with_the_closest(prepared: Path) -> None:
    dataset = Dataset(prepared)
    key = str(dataset.column("key")[3])
    with pytest.raises(InputError) as caught:
        row_of(dataset, key + "x")
    text = str(caught.value)
    assert text.startswith(f"{prepared} has no utterance '{key}x': did you mean {key}")
    assert text.count(" or ") <= 2
    with pytest.raises(InputError) as caught:
        row_of(dataset, "~~~")
    assert str(caught.value) == f"{prepared} has no utterance '~~~'"


def test_a_survey_adds_up_what_the_index_says(prepared: Path) -> None:
    dataset = Dataset(prepared)
    rows = dataset.table.to_pylist()
    found = survey(dataset)
    np.testing.assert_allclose(found.durations, [row["samples"] / 16_000 for row in rows])
    for name, count, hours in zip(
        found.speakers.names, found.speakers.utterances, found.speakers.hours, strict=True
    ):
        samples = [row["samples"] for row in rows if row["speaker"] == name]
        assert (count, hours) == (len(samples), pytest.approx(sum(samples) / 16_000 / 3600))
    assert list(found.speakers.utterances) == sorted(found.speakers.utterances, reverse=True)
    document = found.to_dict()
    assert document["duration_s"]["p95"] == pytest.approx(np.percentile(found.durations, 95))
    assert document["utterances_per_speaker"]["median"] == 6
    assert document["flags"] == {}


def test_stats_prints_numbers_and_draws_only_where_it_is_told_to(
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["shards", "stats", str(prepared)]) == 0
    assert capsys.readouterr().out.startswith("30 utterances, 0.00 hours, 6 speakers\n")
    assert list(tmp_path.iterdir()) == []
    assert main(["shards", "stats", str(prepared), "--out", "pictures", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["pictures"]
    names = ["durations", "speakers", "spectrum-logmel", "spectrum-fbank"]
    assert written == [f"pictures/{name}.png" for name in names]
    for name in written:
        assert (tmp_path / name).read_bytes().startswith(PNG)


def test_looking_changes_nothing(prepared: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(prepared, tmp_path / "data"))
    key = str(Dataset(copy).column("key")[0])
    main(["shards", "info", str(copy)])
    main(["shards", "verify", str(copy)])
    main(["shards", "stats", str(copy), "--out", str(tmp_path / "pictures")])
    main(["shards", "show", str(copy), key, "--out", str(tmp_path / "picture.png")])
    assert [*tree(copy).values()] == [*tree(prepared).values()]


def test_a_picture_of_an_utterance_has_its_seconds_its_dimensions_and_its_title() -> None:
    array: NDArray[np.float16] = np.arange(50 * 13, dtype=np.float16).reshape(50, 13)
    figure = utterance_figure({"mfcc": array}, {"mfcc": MfccSettings()}, "a-1: dev, 0.50 s")
    panel, bar = figure.axes
    assert panel.get_xlim() == (0, 0.5)
    assert panel.get_ylim() == (-0.5, 12.5)
    assert panel.get_ylabel() == "mfcc: cepstral coefficient"
    assert bar.get_ylabel() == "coefficient"
    assert figure.get_suptitle() == "a-1: dev, 0.50 s"


def test_names_that_look_like_mathematics_are_drawn(tmp_path: Path) -> None:
    name = r"$\bad$"
    array = np.zeros((50, 13), np.float16)
    save(utterance_figure({"mfcc": array}, {"mfcc": MfccSettings()}, name), tmp_path / "one.png")
    speakers = SpeakerTotals((name, "b"), np.array([2, 1]), np.array([0.2, 0.1]))
    save(speaker_figure(speakers), tmp_path / "speakers.png")
    assert {path.read_bytes()[:8] for path in tmp_path.iterdir()} == {PNG}


def test_two_thousand_speakers_fit_into_a_picture(tmp_path: Path) -> None:
    counts = np.arange(2000, 0, -1)
    speakers = SpeakerTotals(tuple(map(str, counts)), counts, counts / 450)
    save(speaker_figure(speakers), tmp_path / "speakers.png")
    save(duration_figure(np.array([1.0])), tmp_path / "one.png")
    assert (tmp_path / "speakers.png").read_bytes().startswith(PNG)
