from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aalbert.shards.views.info import describe
from aalbert.train.downstream.left_out import LeftOut
from aalbert.train.evaluation import report
from aalbert.train.evaluation.breakdown import ClassResult, ConfusedPair, Group, Unpaired
from aalbert.train.evaluation.comparison import Comparison
from aalbert.train.evaluation.evaluate import Evaluation
from aalbert.train.run_folder import RunFolder
from tests.html_page import HtmlPage

HOSTILE = """<script>alert(1)"'><img src=x onerror=alert(2)>&amp;{{ 7 * 7 }}"""

PLACES = (
    *("metric", "sessions", "baseline", "further", "group", "class", "other class", "true class"),
    *(
        "predicted class",
        "run",
        "split",
        "count",
        "place",
        "fingerprint",
        "setting",
        "value",
        "head",
    ),
    *("left split", "reason", "unpaired"),
    *("upstream", "reference", "corpus", "dataset split", "feature", "key", "number"),
)


def hostile(place: str) -> str:
    return f"{HOSTILE}<b>{place}"


def hostile_evaluation(evaluation: Evaluation) -> Evaluation:
    """The same with a hostile name wherever a corpus, a folder or a model brings one."""
    result = evaluation.result
    metric = replace(
        result.metric,
        name=hostile("metric"),
        resampled=f"4 {hostile('sessions')}",
        baselines={hostile("baseline"): 0.25},
        further={hostile("further"): 0.5},
    )
    group = Group(name=hostile("group"), items=4, value=0.5, interval_95=None)
    worst = ClassResult(
        name=hostile("class"), items=4, accuracy=0.5, confused_with=hostile("other class")
    )
    pair = ConfusedPair(
        true=hostile("true class"), predicted=hostile("predicted class"), items=2, share=0.5
    )
    left_out = LeftOut(split=hostile("left split"), utterances=9, reasons={hostile("reason"): 1})
    unpaired = (Unpaired(name=hostile("unpaired"), items=1),)
    changed = replace(
        result,
        left_out=left_out,
        most_deleted=unpaired,
        most_inserted=unpaired,
        run=f"runs/{hostile('run')}",
        split=hostile("split"),
        metric=metric,
        counts={hostile("count"): 8, "too_short": 5},
        data=hostile("place"),
        data_fingerprint=hostile("fingerprint"),
        upstream=f"{hostile('upstream')}/export",
        upstream_training={hostile("setting"): hostile("value")},
        head=hostile("head"),
        by_gender=(group,),
        per_class=(worst,),
        most_confused=(pair,),
    )
    return replace(evaluation, run=RunFolder(Path(changed.run)), result=changed)


def test_no_name_becomes_markup_anywhere_in_a_report(
    evaluations: list[Evaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe_hostile(folder: Path) -> dict[str, Any]:
        document = describe(folder)
        splits = {hostile("dataset split"): document["splits"]["test"]}
        feature = {"dims": 20, "settings": {hostile("key"): hostile("number")}}
        features = {hostile("feature"): feature}
        return document | {"corpus": hostile("corpus"), "splits": splits, "features": features}

    monkeypatch.setattr(report, "describe", describe_hostile)
    changed = hostile_evaluation(evaluations[0])
    comparison = Comparison(
        run=changed.result.run,
        reference=f"runs/{hostile('reference')}",
        share=True,
        difference=0.1,
        interval_95=(0.0, 0.2),
        bootstrap_p=0.5,
        mcnemar_p=0.5,
    )
    ours = HtmlPage(evaluations[0].measured.folder.report.read_text())
    pages = [
        HtmlPage(report.report_page(changed)),
        HtmlPage(report.comparison_page([changed], [comparison])),
    ]
    for page in pages:
        # Only the elements and attributes of a report without such names.
        assert page.open == [] and page.elements <= ours.elements
        assert page.attributes <= ours.attributes
        assert all(reference.startswith(("data:", "#")) for reference in page.references)
    text = "".join(text for page in pages for text in page.texts)
    assert [place for place in PLACES if hostile(place) not in text] == []
    # The title, the headline, the table of results, and the run that is not there.
    assert text.count(hostile("upstream")) >= 4
    words = " ".join(text.split())
    assert (
        f"1 of the 9 utterances of the split '{hostile('left split')}' are left out "
        f"({hostile('reason')}: 1): {hostile('metric')} is that of the others." in words
    )
    short = "5 of the tested utterances have fewer frames than their phones need"
    assert words.count(short) == 2
    others = HtmlPage(report.comparison_page([evaluations[0], changed], [comparison]))
    others_words = " ".join("".join(others.texts).split())
    assert others_words.count(short) == 1 and f"{hostile('run')}, {short}" in others_words
    whole = evaluations[0].measured.folder.report.read_text()
    assert "left out" not in whole and "fewer frames than" not in whole
