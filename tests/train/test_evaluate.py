import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from aalbert.errors import ConfigError, InputError, IntegrityError
from aalbert.train.configs import DownstreamConfig
from aalbert.train.downstream import start_downstream
from aalbert.train.evaluate import evaluate_runs, results_table, speaker_results
from aalbert.train.identification import Scores
from aalbert.train.report import write_reports

SCORES = Scores(
    scores=torch.tensor(
        [[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [3.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 1.0]]
    ),
    classes=torch.tensor([0, 1, 1, 2, 2]),
    rows=np.arange(5),
)


def test_accuracies_and_confusion_equal_a_count_by_hand() -> None:
    assert SCORES.correct.tolist() == [True, True, False, True, False]
    assert SCORES.accuracy() == 0.6
    assert SCORES.accuracy(top=2) == 0.6  # the true class is last in both wrong ones
    assert SCORES.accuracy(top=5) == 1.0  # with three classes, all of them
    assert SCORES.confusion().tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]


def test_speakers_are_listed_from_the_least_recognised() -> None:
    results = speaker_results(["a", "b", "c"], SCORES.confusion())
    assert [(r.speaker, r.utterances, r.accuracy, r.taken_for) for r in results] == [
        ("b", 2, 0.5, "a"),
        ("c", 2, 0.5, "b"),
        ("a", 1, 1.0, None),
    ]


def test_a_result_file_names_everything_the_result_depends_on(speaker_run: Path) -> None:
    evaluate_runs([speaker_run])
    result = json.loads((speaker_run / "metrics.json").read_text())
    assert result["split"] == "test"
    assert result["utterances"] == 8
    assert result["chance"] == 0.25
    assert result["layers"] == "weighted" and sum(result["layer_weights"]) == pytest.approx(
        1, abs=1e-5
    )
    for name in ("data_fingerprint", "learning_rate", "seed", "upstream", "upstream_parameters"):
        assert result[name] is not None
    low, high = result["accuracy_interval_95"]
    assert low <= result["accuracy"] <= high


class Page(HTMLParser):
    """Collects what a page refers to, and checks that its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_file_with_its_pictures_inside(
    speaker_run: Path, voxceleb1_data: Path, tmp_path: Path
) -> None:
    start_downstream(DownstreamConfig(epochs=1), voxceleb1_data, "logmel", tmp_path / "logmel")
    write_reports(evaluate_runs([speaker_run, tmp_path / "logmel"]))
    text = (speaker_run / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert len([url for url in page.references if url.startswith("data:image/png")]) == 5
    assert all(url.startswith("data:") for url in page.references)
    assert "url(" not in text and "<script" not in text
    assert re.search(r"<td>logmel</td>", text) and re.search(r"<td>pretrain</td>", text)


def test_the_report_escapes_what_comes_from_outside(
    speaker_run: Path, tmp_path: Path, voxceleb1_data: Path
) -> None:
    out = tmp_path / "<script>alert(1)</script>"
    start_downstream(DownstreamConfig(epochs=1), voxceleb1_data, "logmel", out)
    write_reports(evaluate_runs([out, speaker_run]))
    assert "<script" not in (out / "report.html").read_text()


def test_the_table_lists_the_best_first_and_chance_last(
    speaker_run: Path,
) -> None:
    lines = results_table([evaluate_runs([speaker_run])[0].result]).splitlines()
    assert lines[0].split() == ["upstream", "accuracy", "95", "%", "interval", "top", "5"]
    assert lines[1].startswith("pretrain")
    assert lines[-1].split() == ["chance", "25.0", "%"]


def test_what_cannot_be_evaluated_says_why(
    pretrained: Path, speaker_run: Path, librispeech_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="is a run of 'pretrain': evaluate a downstream run"):
        evaluate_runs([pretrained])
    with pytest.raises(InputError, match="is not the folder of a run"):
        evaluate_runs([tmp_path])
    with pytest.raises(IntegrityError, match="has fingerprint .* it is another dataset, or was"):
        evaluate_runs([speaker_run], data=librispeech_data)
