import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aalbert.errors import InputError
from aalbert.pipeline.audio.conditioning import condition
from aalbert.pipeline.audio.decode import read_audio, resample
from aalbert.pipeline.audio.features import extract
from aalbert.pipeline.corpora import waves as waves_module
from aalbert.pipeline.corpora.corpus import Corpus
from aalbert.pipeline.corpora.folder import FolderOptions, read_folder
from aalbert.pipeline.corpora.manifest_file import read_manifest_file
from aalbert.pipeline.corpora.synthesis import write_voxceleb1
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
from aalbert.pipeline.corpora.waves import CorpusWaves
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.shards.format.wave_settings import SilenceSettings, WaveSettings
from aalbert.shards.reading.dataset import Dataset

WHOLE = slice(None)
AS_IT_IS = WaveSettings()


def prepared_of(corpus: Corpus, out: Path, wave: WaveSettings = AS_IT_IS) -> Dataset:
    config = PrepareConfig(features=(LogMelSettings(wave=wave),))
    prepare(corpus, out, config, PrepareLimits(engine=LocalEngine(workers=1)))
    return Dataset(out)


def test_waves_are_those_that_the_stored_features_were_computed_from(
    librispeech_folder: Path, prepared: Path
) -> None:
    dataset = Dataset(prepared)
    waves = CorpusWaves(dataset, str(librispeech_folder))
    for row in (0, 7, len(dataset) - 1):
        wave = waves.read(row, WHOLE, 16_000)
        features = extract(wave, LogMelSettings()).astype(np.float16)
        assert np.array_equal(features, dataset.features(row, "logmel"))


def test_silence_and_loudness_are_as_in_the_features(
    librispeech_folder: Path, tmp_path: Path
) -> None:
    settings = WaveSettings(loudness_db=-30.0, silence=SilenceSettings(threshold_db=20.0))
    corpus = read_folder(librispeech_folder, FolderOptions())
    dataset = prepared_of(corpus, tmp_path / "data", settings)
    waves = CorpusWaves(dataset, str(librispeech_folder))
    source = librispeech_folder / dataset.table.column("source")[3].as_py()
    expected = condition(read_audio(source, 16_000).wave, 16_000, settings)
    assert len(expected) < len(read_audio(source, 16_000).wave)
    assert np.array_equal(waves.read(3, WHOLE, 16_000), expected)
    assert np.array_equal(waves.read(3, slice(160, 4_000), 16_000), expected[160:4_000])
    assert np.array_equal(waves.read(3, WHOLE, 8_000), resample(expected, 16_000, 8_000))


def test_parts_of_recordings_in_a_list_are_found_again(
    librispeech_folder: Path, tmp_path: Path
) -> None:
    path = next(iter(sorted(librispeech_folder.rglob("*.flac"))))
    table = tmp_path / "parts.csv"
    table.write_text(f"path,start,end\n{path},0.05,0.15\n{path},0.1,0.25\n")
    dataset = prepared_of(read_manifest_file(table), tmp_path / "data")
    waves = CorpusWaves(dataset, str(table))
    whole = read_audio(path, 16_000).wave
    found = {len(wave): wave for wave in (waves.read(row, WHOLE, 16_000) for row in (0, 1))}
    assert np.array_equal(found[1_600], whole[800:2_400])
    assert np.array_equal(found[2_400], whole[1_600:4_000])


def test_a_corpus_that_is_gone_or_another_is_an_error_of_one_line(
    librispeech_folder: Path, prepared: Path, tmp_path: Path, voxceleb1_data: Path
) -> None:
    dataset = Dataset(prepared)

    def refused(corpus: Path, text: str, of: Dataset = dataset) -> None:
        with pytest.raises(InputError, match=text) as caught:
            CorpusWaves(of, str(corpus)).read(0, WHOLE, 16_000)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "gone", "there is no corpus at .*gone, whose waves are needed: name the")
    refused(
        voxceleb1_data.parent / "corpus",
        "is not what was expected. Expected: the folder LibriSpeech",
    )
    copy = Path(shutil.copytree(librispeech_folder, tmp_path / "copy"))
    source = copy / dataset.table.column("source")[0].as_py()
    other = copy / dataset.table.column("source")[1].as_py()
    content = source.read_bytes()
    source.write_bytes(other.read_bytes())
    samples = int(dataset.table.column("samples")[0].as_py())
    key = dataset.key(0)
    refused(copy, rf"samples, {re.escape(dataset.place)} was prepared from {samples:,} of '{key}'")
    source.write_bytes(content[: len(content) // 2])
    refused(copy, f"{source.name} .*: name the corpus that it was prepared from with --corpus DIR")
    noise = np.random.default_rng(1).normal(size=samples) * 0.1
    soundfile.write(source, noise, 16_000, format="FLAC")
    refused(
        copy,
        f"{source.name} does not give the logmel that .* stores of '{key}', whose mean differs by "
        r"up to \d+\.\d\d: it is other audio; name the corpus",
    )
    source.unlink()
    refused(copy, f"has no recording of 1 of the 30 utterances of .*, such as '{key}': name the")
    with pytest.raises(InputError) as caught:
        CorpusWaves(dataset, "s3://key:secret@bucket/LibriSpeech")
    assert "secret" not in str(caught.value) and "://" in str(caught.value)
    assert "is a URL, and waves are read from a local folder: copy the corpus" in str(caught.value)


def test_nothing_is_looked_for_before_a_wave_is_read(
    librispeech_folder: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the corpus is listed")

    monkeypatch.setattr(waves_module, "read_librispeech", refuse)
    whole = CorpusWaves(Dataset(prepared), str(librispeech_folder))
    # Every recording is a file that the index names: nothing is listed then either.
    assert len(whole.read(0, WHOLE, 16_000)) == whole.samples[0]
    CorpusWaves(Dataset(prepared), str(librispeech_folder.parent))


def test_waves_of_archives_are_those_of_their_folders(
    librispeech_folder: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "archives"
    root.mkdir()
    for subset in ("train-clean-100", "dev-clean"):
        with tarfile.open(root / f"{subset}.tar.gz", "w:gz") as archive:
            archive.add(librispeech_folder / subset, f"LibriSpeech/{subset}")
    dataset = Dataset(prepared)
    packed, plain = CorpusWaves(dataset, str(root)), CorpusWaves(dataset, str(librispeech_folder))
    for row in (0, 11, len(dataset) - 1):
        assert np.array_equal(packed.read(row, WHOLE, 16_000), plain.read(row, WHOLE, 16_000))


def test_a_split_file_elsewhere_is_not_needed_again(tmp_path: Path) -> None:
    root, split = tmp_path / "VoxCeleb1", tmp_path / "lists" / "own.txt"
    sizes = {"speakers": 2, "videos_per_speaker": 2, "utterances_per_video": 2}
    write_voxceleb1(root, **sizes, seed=4, seconds=(0.2, 0.3))
    split.parent.mkdir()
    (root / "iden_split.txt").rename(split)
    dataset = prepared_of(read_voxceleb1(root, split), tmp_path / "data")
    waves = CorpusWaves(dataset, str(root))
    source = root / dataset.table.column("source")[1].as_py()
    assert np.array_equal(waves.read(1, WHOLE, 16_000), read_audio(source, 16_000).wave)


def test_recordings_of_a_list_with_a_root_are_found_below_it(
    librispeech_folder: Path, tmp_path: Path
) -> None:
    paths = sorted(librispeech_folder.rglob("*.flac"))[:3]
    table = tmp_path / "lists" / "some.csv"
    table.parent.mkdir()
    names = [str(path.relative_to(librispeech_folder)) for path in paths]
    table.write_text("\n".join(["path", *names]) + "\n")
    dataset = prepared_of(read_manifest_file(table, librispeech_folder), tmp_path / "data")
    waves = CorpusWaves(dataset, str(librispeech_folder))
    for row, path in enumerate(paths):
        assert np.array_equal(waves.read(row, WHOLE, 16_000), read_audio(path, 16_000).wave)
