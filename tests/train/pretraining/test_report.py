import json
import shutil
from dataclasses import replace
from pathlib import Path

from aalbert.shards import Dataset
from aalbert.train.pretraining.report import write_pretraining_report
from aalbert.train.pretraining.trivial_predictors import DESCRIPTIONS, compare_in_words
from aalbert.train.run_folder import RunFolder
from tests.html_page import HtmlPage

HOSTILE = """<script>alert(1)"'><img src=x onerror=alert(2)>&amp;{{ 7 * 7 }}"""


def hostile(place: str) -> str:
    return f"{HOSTILE}<b>{place}"


def test_no_setting_or_name_becomes_markup(
    pretrained: Path, librispeech_data: Path, tmp_path: Path
) -> None:
    run = RunFolder(Path(shutil.copytree(pretrained, tmp_path / "run")))
    settings = run.config.read_text() + f"# {hostile('setting')}\n"
    run.config.write_text(settings)
    names = ("command", "python", "host", "system", "exported")
    changes = {name: hostile(name) for name in names}
    software = {hostile("package"): hostile("version")}
    run.record.write_text(json.dumps({**run.read_record(), **changes, "software": software}))
    dataset = Dataset(librispeech_data)
    kind, feature = next(iter(dataset.manifest.features.items()))
    split = next(iter(dataset.manifest.splits.values()))
    dataset.place = hostile("place")
    dataset.manifest = replace(
        dataset.manifest,
        corpus=hostile("corpus"),
        features={hostile("feature"): feature},
        splits={hostile("split"): split},
    )
    write_pretraining_report(run, [dataset])
    ours = HtmlPage((pretrained / "report.html").read_text())
    page = HtmlPage(run.report.read_text())
    assert page.open == [] and page.elements == ours.elements
    assert page.attributes == ours.attributes
    # All of the settings, line breaks included, are in one place.
    assert settings in page.texts
    text = "".join(page.texts)
    places = (*names, "package", "version", "place", "corpus", "feature", "split")
    assert [place for place in places if hostile(place) not in text] == []


def test_every_dataset_has_its_own_facts(
    pretrained: Path, librispeech_data: Path, voxceleb1_data: Path, tmp_path: Path
) -> None:
    run = RunFolder(Path(shutil.copytree(pretrained, tmp_path / "run")))
    datasets = [Dataset(librispeech_data), Dataset(voxceleb1_data)]
    write_pretraining_report(run, datasets)
    texts = HtmlPage(run.report.read_text()).texts
    for dataset in datasets:
        assert dataset.manifest.fingerprint in texts and dataset.place in texts
        seconds = sum(dataset.table.column("samples").to_pylist()) / 16_000
        assert f"{len(dataset):,}, {seconds / 3600:,.2f} hours" in texts
    assert "logmel of 20, linear of 33" in texts and "logmel of 20" in texts


def test_the_loss_is_shown_beside_those_of_trivial_predictors(pretrained: Path) -> None:
    run = RunFolder(pretrained)
    texts = HtmlPage(run.report.read_text()).texts
    loss = run.held_out_losses()[12]
    predictors = run.read_record()["trivial_predictors"]
    start = texts.index("this model")
    cells = [text for text in texts[start:] if text.strip()][:12]
    assert cells[::2] == ["this model", *DESCRIPTIONS.values()]
    assert cells[1::2] == [f"{value:.4f}" for value in (loss, *predictors.values())]
    assert any(compare_in_words(loss, predictors) in text for text in texts)
