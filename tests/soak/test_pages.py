"""Hostile names in all that people look at: pages, cards, tables, figures, the terminal.

One fault draws names for every place of one of these, and holds the result beside that of plain
names: the same elements, rows and cells, with each name in its place, as text.
"""

import csv
import io
import os
import shutil
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt

from aalbert.commands.console import show
from aalbert.commands.shards import about_text
from aalbert.common.csv_text import FORMULA_STARTS
from aalbert.common.text import visible
from aalbert.models.cards.downstream import Score
from aalbert.models.downstream import DownstreamModel
from aalbert.models.head_config import HeadConfig
from aalbert.models.pretrained import PretrainedModel
from aalbert.pipeline.alignment.output import Failure, readme
from aalbert.pipeline.corpora.corpus import Skip
from aalbert.pipeline.prepare.card import dataset_card
from aalbert.shards.format.manifest import Manifest
from aalbert.shards.reading.dataset import Dataset
from aalbert.shards.views.info import describe, description_text
from aalbert.shards.views.pictures import speaker_figure
from aalbert.shards.views.stats import SpeakerTotals
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.error_rates import error_rates
from aalbert.train.downstream.left_out import LeftOut
from aalbert.train.evaluation import report
from aalbert.train.evaluation.breakdown import ClassResult, ConfusedPair, Group, Unpaired
from aalbert.train.evaluation.comparison import Comparison
from aalbert.train.evaluation.det_chart import DetCurve, det_chart
from aalbert.train.evaluation.embedding_charts import embedding_charts
from aalbert.train.evaluation.embedding_planes import EmbeddingPlanes
from aalbert.train.evaluation.evaluate import Evaluation
from aalbert.train.evaluation.figures import confusion_chart
from aalbert.train.evaluation.result import Result
from aalbert.train.evaluation.tables import (
    markdown_tables,
    predictions_csv,
    result_csv,
    text_tables,
)
from aalbert.train.pretraining import report as pretraining_report
from aalbert.train.pretraining.report import write_pretraining_report
from aalbert.train.report.figures import to_png
from aalbert.train.report.page import ENVIRONMENT
from aalbert.train.run_folder import RunFolder
from tests.browser import Browser, find_browser, open_browser
from tests.confusions import confusion_of
from tests.html_page import HtmlPage
from tests.soak.hostile import hostile_name, hostile_text
from tests.soak.programs import Programs
from tests.soak.soak import Soak

CHARTS = """{% extends 'base.html' %}{% block head %}{% endblock %}{% block body %}
{% from 'charts.html' import chart %}{% for each in charts %}{{ chart(each) }}{% endfor %}
{% endblock %}"""
# A browser takes 30 ms for a page that the parser reads in 2.
OPENED_SHARE = 0.3
# Of the commands: an evaluation takes 2 s, what looks into a dataset 0.2.
EVALUATED_SHARE = 0.1
FROM_THE_RIGHT = ("R", "AL")
IN_PAGE = """({
  ran: window.ran === 1 || document.title === 'RAN',
  elements: document.querySelectorAll('*').length,
  text: document.documentElement.textContent,
})"""
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
# Draws a name for a place.
Draw = Callable[[str], str]


class Page(HtmlPage):
    """A page, and which of its texts lie inside an element with a direction of its own."""

    def __init__(self, source: str) -> None:
        self.isolating: list[bool] = []
        self.beside_others: list[str] = []
        super().__init__(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        before = len(self.open)
        super().handle_starttag(tag, attrs)
        if len(self.open) > before:
            self.isolating.append(tag in ("bdi", "title", "text") or ("dir", "auto") in attrs)

    def handle_endtag(self, tag: str) -> None:
        super().handle_endtag(tag)
        self.isolating.pop()

    def handle_data(self, data: str) -> None:
        super().handle_data(data)
        if not any(self.isolating) and any(
            unicodedata.bidirectional(each) in FROM_THE_RIGHT for each in data
        ):
            self.beside_others.append(data)


@dataclass(frozen=True)
class Beside:
    """What is made of hostile names, by place, and of plain ones in the same places."""

    names: dict[str, str]
    hostile: Any
    plain: Any

    def shown(self, plain: str) -> list[str]:
        """The hostile names whose places are in what was made of the plain ones."""
        return [name for place, name in self.names.items() if plain_name(place) in plain]


def plain_name(place: str) -> str:
    return f"the {place}."


def beside(random: Random, make: Callable[[Draw], Any], text: Any = hostile_text) -> Beside:
    """Make something of hostile names, and again of plain ones."""
    names: dict[str, str] = {}

    def draw(place: str) -> str:
        fitted = {"folder": in_a_path, "reason": before_colon}.get(place.split()[0], str)
        # Equal names are one: of a class, a split, a reason.
        while (name := fitted(text(random))) in names.values():
            pass
        names[place] = name
        return name

    return Beside(names, make(draw), make(plain_name))


def hostile_result(result: Result, draw: Draw) -> Result:
    """A result with a name of data, folders or a model in each place of one."""
    worst = ClassResult(name=draw("class"), items=4, accuracy=0.5, confused_with=draw("other"))
    pair = ConfusedPair(true=draw("true"), predicted=draw("predicted"), items=2, share=0.5)
    group = Group(name=draw("gender"), items=4, value=0.5, interval_95=None)
    return replace(
        result,
        # Slashes of a path divide names, and are in none.
        run=f"runs/{draw('folder of run')}",
        trials=draw("trials"),
        data=draw("data"),
        data_fingerprint=draw("fingerprint"),
        upstream=f"models/{draw('folder of upstream')}",
        upstream_training={draw("setting"): draw("value")},
        by_gender=(group,),
        per_class=(worst,),
        most_confused=(pair,),
        most_deleted=(Unpaired(name=draw("deleted"), items=1),),
        left_out=LeftOut(split=draw("split left out"), utterances=9, reasons={"no class": 1}),
    )


def in_a_path(name: str) -> str:
    return name.replace("/", "∕").strip(".") or "x"


def compared(results: Sequence[Result]) -> list[Comparison]:
    return [
        Comparison(
            run=each.run,
            reference=results[0].run,
            share=True,
            difference=0.1,
            interval_95=(0.0, 0.2),
            bootstrap_p=0.5,
            mcnemar_p=None,
        )
        for each in results[1:]
    ]


def before_colon(reason: str) -> str:
    """What cards show of a reason: figures of a single file follow a colon."""
    return reason.partition(":")[0]


def compared_results(evaluation: Evaluation, draw: Draw) -> tuple[list[Result], list[Comparison]]:
    results = results_of(evaluation, draw)
    return results, compared(results)


def results_of(evaluation: Evaluation, draw: Draw) -> list[Result]:
    """Two results whose runs have different names."""
    first = hostile_result(evaluation.result, lambda place: draw(f"{place} of one"))
    second = hostile_result(evaluation.result, lambda place: draw(f"{place} of two"))
    return [first, second]


def evaluation_page(evaluation: Evaluation, draw: Draw) -> str:
    result = hostile_result(evaluation.result, draw)
    return report.report_page(replace(evaluation, result=result))


def comparison_page(evaluation: Evaluation, draw: Draw) -> str:
    results = results_of(evaluation, draw)
    evaluations = [replace(evaluation, result=each) for each in results]
    return report.comparison_page(evaluations, compared(results))


def pretraining_page(run: RunFolder, dataset: Dataset, draw: Draw) -> str:
    changes = {name: draw(name) for name in ("command", "python", "host", "system", "exported")}
    own = run.read_record()
    manifest = replace(dataset.manifest, corpus=draw("corpus"))
    split = next(iter(manifest.splits.values()))
    opened: Any = SimpleNamespace(
        manifest=replace(manifest, splits={draw("split"): split}), place=draw("place")
    )
    settings = draw("settings")
    recorded = {**own, **changes, "software": {draw("package"): draw("version")}}
    shown: Any = SimpleNamespace(
        read_metrics=run.read_metrics,
        read_record=lambda: recorded,
        held_out_losses=run.held_out_losses,
        held_out_loss=run.held_out_loss,
        pictures=run.pictures / "none",
        config=SimpleNamespace(read_text=lambda encoding: settings),
        report=run.report,
    )
    written: list[str] = []

    def write(path: Path, text: str) -> None:
        written.append(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining_report, "write_text", write)
        write_pretraining_report(shown, [opened])
    return written[0]


def as_shown(name: str) -> str:
    return visible(name, kept="\n\t")


def judge_page(page: Beside, browser: Browser | None, folder: Path) -> None:
    """The elements of a page of plain names, the names as text, and nothing that runs."""
    content = page.hostile.encode("utf-8")
    parsed, plain = Page(page.hostile), Page(page.plain)
    assert parsed.open == []
    assert parsed.shape == plain.shape
    assert all(each.startswith(("data:", "#")) for each in parsed.references)
    text = "".join(parsed.texts)
    missing = [name for name in page.shown("".join(plain.texts)) if as_shown(name) not in text]
    assert missing == []
    assert as_shown(text) == text
    assert parsed.beside_others == []
    if browser is None:
        return
    path = folder / "page.html"
    path.write_bytes(content)
    browser.open(path.as_uri())
    seen = browser.evaluate(IN_PAGE)
    assert not seen["ran"] and seen["elements"] == len(plain.shape)
    assert browser.complaints() == [] and browser.requests(path.as_uri()) == []
    # The line break before the end of a page is nobody's.
    assert " ".join(seen["text"].split()) == " ".join(text.split())


def dataset_cards(manifest: Manifest, draw: Draw) -> str:
    split = next(iter(manifest.splits.values()))
    changed = replace(
        manifest, corpus=draw("corpus"), splits={draw("split"): split, draw("other"): split}
    )
    reasons = [f"not {draw(place)}" for place in ("reason one", "reason two")]
    skipped = [Skip(source=draw(f"source of {each}"), reason=each) for each in reasons]
    return dataset_card(changed, draw("licence"), skipped)


def alignment_card(draw: Draw) -> str:
    record = {
        **{"aalbert": "1", "software": "pocketsphinx 5", "own_pronunciations": 1},
        **{"corpus": draw("corpus"), "licence": draw("licence")},
        **{"utterances": 1, "hours": 1.0, "failed": 1, "without_text": 0, "suspicious": 0},
        **{"median_ms": {"T": 10}, "silence": 0.1},
    }
    reason = f"the word {draw('reason')}"
    return readme(record, [Failure(key=draw("key"), source=draw("source"), reason=reason)])


def checkpoint_card(model: PretrainedModel, draw: Draw) -> str:
    document = model.document()
    document["upstream"]["training"] = {"corpus": draw("corpus"), "state": draw("state")}
    return model.card(document)


def head_card(model: PretrainedModel, draw: Draw) -> str:
    """The text of a card, whose header ends where it should."""
    training = {name: draw(name) for name in ("labels", "corpus", "task")}
    classes = [draw("class one"), draw("class two")]
    score = Score(
        metric="accuracy",
        value=0.5,
        interval_95=(0.4, 0.6),
        share=True,
        split=draw("split"),
        tested="2 utterances",
        resampled="2 videos",
        baselines={draw("other"): 0.1},
    )
    head = DownstreamModel(model.upstream, classes, "mean", HeadConfig(), training=training)
    header, _, text = head.card(score).removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(header)["metrics"] == ["accuracy"]
    return text


def judge_markdown(card: Beside) -> None:
    """The structure of Markdown of plain names: no picture, link, HTML, row or cell more."""
    parsed, plain = (MARKDOWN.parse(each) for each in (card.hostile, card.plain))
    assert structure(parsed) == structure(plain)
    assert visible(card.hostile, kept="\n") == card.hostile
    text, plain_text = (texts(each) for each in (parsed, plain))
    assert [name for name in card.shown(plain_text) if on_a_line(name) not in text] == []
    for line in card.hostile.splitlines():
        # Addresses become links where nothing says that they are.
        assert "elsewhere" not in line or not any(
            start in line for start in ("http://else", "https://else", "www.else")
        )


def on_a_line(name: str) -> str:
    """A name as a cell shows it."""
    return visible(" ".join(name.split()))


def texts(tokens: Sequence[Any]) -> str:
    """The text of Markdown that has been read, a space for every break."""
    return " ".join(
        "".join(each.content if each.type != "softbreak" else " " for each in token.children)
        for token in tokens
        if token.children is not None
    )


def structure(tokens: Sequence[Any]) -> list[str]:
    """The kinds of blocks and, inside of them, of what is no text."""
    kinds = []
    for token in tokens:
        kinds.append(token.type)
        if token.children is not None:
            inside = (each.type for each in token.children)
            kinds += [each for each in inside if each not in ("text", "text_special", "softbreak")]
    return kinds


def judge_csv(table: Beside) -> None:
    """Rows and cells of the same number, each text as it is or with a `'` before a formula."""
    hostile, plain = (
        list(csv.reader(io.StringIO(each, newline=""))) for each in (table.hostile, table.plain)
    )
    assert [len(row) for row in hostile] == [len(row) for row in plain]
    cells = [cell for row in hostile for cell in row]
    for cell, other in zip(cells, (cell for row in plain for cell in row), strict=True):
        assert cell == other or not cell.startswith(FORMULA_STARTS)
    for name in table.shown(table.plain):
        assert any(name in cell for cell in cells)


def predictions(draw: Draw) -> str:
    keys = [draw(f"key {number}") for number in range(3)]
    names = [draw(f"class {number}") for number in range(2)]
    one = np.ones(3, np.int64)
    outcome = Decisions(
        names=names,
        rows=np.arange(3),
        scored=one,
        correct=one,
        confusion=confusion_of(np.eye(2)),
        true=np.array([0, 1, 0]),
        predicted=np.array([1, 1, 0]),
    )
    column = SimpleNamespace(to_pylist=lambda: keys)
    dataset: Any = SimpleNamespace(table=SimpleNamespace(column=lambda name: column))
    return predictions_csv(outcome, dataset)


def described(document: dict[str, Any], draw: Draw) -> str:
    split = next(iter(document["splits"].values()))
    changed = {"corpus": draw("corpus"), "splits": {draw("split"): split, draw("other"): split}}
    changed["data"] = draw("folder of data")
    reasons = {draw("reason one"): 3, draw("reason two"): 2}
    return description_text({**document, **changed, "skipped_by_reason": reasons})


def facts(draw: Draw) -> str:
    names = ("key", "speaker", "split", "source", "text", "shard")
    about = {**{name: draw(name) for name in names}, "flags": [draw("flag")], "features": {}}
    return about_text(about)


def judge_text(text: Beside) -> None:
    """As many lines as of plain names, and nothing that moves a cursor or turns the order."""
    printed = []
    for each in (text.hostile, text.plain):
        with redirect_stdout(io.StringIO()) as stream:
            show({}, as_json=False, text=each)
        printed.append(stream.getvalue())
    hostile, plain = printed
    assert hostile.count("\n") == plain.count("\n")
    assert visible(hostile, kept="\n") == hostile


def charts_page(draw: Draw) -> str:
    """A page of charts with names in them."""
    rates = error_rates(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    points = np.array([[0.0, 0], [1, 1], [0, 1], [1, 0]])
    planes = EmbeddingPlanes(
        # They are in the order of the alphabet, which depends on the names.
        labels=(draw("speaker"),) * 4,
        principal=points,
        shares=(0.5, 0.3),
        neighbours=points,
        all_points=4,
        all_labels=4,
    )
    charts = [
        confusion_chart(confusion_of(np.eye(3)), [draw(each) for each in "abc"], np.arange(3)),
        det_chart([DetCurve(name=draw(f"run {each}"), rates=rates) for each in "ab"]),
        *embedding_charts(planes),
    ]
    return ENVIRONMENT.from_string(CHARTS).render(title="charts", charts=charts)


def speakers(draw: Draw) -> bytes:
    """A figure with names in it."""
    totals = SpeakerTotals((draw("a"), draw("b")), np.array([1, 2]), np.array([0.1, 0.2]))
    return to_png(speaker_figure(totals))


def judge_figure(drawn: Beside) -> None:
    """Pictures of the same size; that nothing warns, the test's filter says."""
    assert drawn.hostile[:8] == drawn.plain[:8] == b"\x89PNG\r\n\x1a\n"
    assert drawn.hostile[16:24] == drawn.plain[16:24]


def command(programs: Programs, data: Path, run: Path, folder: Path, random: Random) -> str:
    """A command for a folder of a hostile name, of any bytes now and then."""
    asked: tuple[tuple[str, ...], Path]
    if random.random() < EVALUATED_SHARE:
        asked = ("evaluate", *random.choice(((), ("--csv",), ("--markdown",), ("--json",)))), run
    else:
        asked = ("shards", random.choice(("info", "stats", "verify"))), data
    words, target = asked
    name = os.fsencode(hostile_name(random))
    no_text = random.random() < 0.3
    if no_text:
        name = name[:100] + random.choice((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x80"))
    place = folder / os.fsdecode(name)
    place.symlink_to(target)
    try:
        ended = programs.run(*words, "--", place)
    finally:
        place.unlink()
    outcome = ended.outcome()
    assert outcome == ("exit 2" if no_text else "right"), ended.stderr
    for text in (ended.stderr, "" if "--csv" in words else ended.stdout):
        assert visible(text, kept="\n\r") == text
    return outcome


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser | None]:
    """A browser, where there is one; the parser judges all pages everywhere."""
    program = find_browser()
    if program is None:
        yield None
        return
    with open_browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def without_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model runs for a page: the names of pretraining are in one of its own."""
    monkeypatch.setattr(report, "pretraining", lambda each: {"folder": each.result.run, **EMPTY})


EMPTY = {"losses": None, "reconstruction": None}


@pytest.mark.usefixtures("without_models")
def test_hostile_names_stay_names(
    soak: Soak,
    programs: Programs,
    browser: Browser | None,
    evaluations: list[Evaluation],
    pretrained: Path,
    voxceleb1_data: Path,
    tmp_path: Path,
) -> None:
    evaluation, dataset = evaluations[0], Dataset(voxceleb1_data)
    run, model = RunFolder(pretrained), PretrainedModel.from_pretrained(pretrained)
    document = describe(voxceleb1_data)
    evaluated = Path(shutil.copytree(evaluation.run.path, tmp_path / "evaluated"))

    def page(random: Random) -> None:
        makers: tuple[Callable[[Draw], str], ...] = (
            lambda draw: evaluation_page(evaluation, draw),
            lambda draw: comparison_page(evaluation, draw),
            lambda draw: pretraining_page(run, dataset, draw),
            charts_page,
        )
        opened = browser if random.random() < OPENED_SHARE else None
        judge_page(beside(random, random.choice(makers)), opened, tmp_path)

    def card(random: Random) -> None:
        makers: tuple[Callable[[Draw], str], ...] = (
            lambda draw: dataset_cards(dataset.manifest, draw),
            alignment_card,
            lambda draw: checkpoint_card(model, draw),
            lambda draw: head_card(model, draw),
            lambda draw: markdown_tables(
                results := results_of(evaluation, draw), compared(results)
            ),
        )
        judge_markdown(beside(random, random.choice(makers)))

    def table(random: Random) -> None:
        makers: tuple[Callable[[Draw], str], ...] = (
            predictions,
            lambda draw: result_csv(*compared_results(evaluation, draw)),
        )
        judge_csv(beside(random, random.choice(makers)))

    def terminal(random: Random) -> None:
        makers: tuple[Callable[[Draw], str], ...] = (
            lambda draw: text_tables(*compared_results(evaluation, draw)),
            lambda draw: described(document, draw),
            facts,
        )
        judge_text(beside(random, random.choice(makers)))

    def drawing(random: Random) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            judge_figure(beside(random, speakers))

    def fault(random: Random) -> str:
        kinds = (page, card, table, terminal, drawing)
        weights = (30, 30, 15, 20, 2)
        if random.random() < 0.05:
            return command(programs, voxceleb1_data, evaluated, tmp_path, random)
        random.choices(kinds, weights)[0](random)
        return "right"

    soak.run("pages: hostile names", fault)
