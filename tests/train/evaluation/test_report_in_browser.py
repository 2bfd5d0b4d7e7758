from collections.abc import Iterator
from pathlib import Path

import pytest

from aalbert.train.evaluation.evaluate import Evaluation
from tests.browser import Browser, find_browser, open_browser

DESKTOP, PHONE = 1280, 390
FAULTY = """<!doctype html><title>faulty</title>
<meta name="viewport" content="width=device-width">
<img src="http://elsewhere.invalid/picture.png">
<p style="width: 900px">wide</p><script>console.error("oh"); throw new Error("dear")</script>"""


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no chromium is installed")
    with open_browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_a_report_opens_without_complaints_requests_or_overflow(
    width: int, browser: Browser, evaluations: list[Evaluation], pretrained: Path
) -> None:
    pages = [evaluations[0].measured.folder.comparison, pretrained / "report.html"]
    for report in (*(each.measured.folder.report for each in evaluations), *pages):
        visit = browser.visit(report.resolve().as_uri(), width)
        assert visit.complaints == []
        assert visit.requests == []
        pictures = 0 if report.stem == "comparison" else 4
        assert len(visit.picture_widths) >= pictures
        assert min(visit.picture_widths, default=DESKTOP) > 300
        assert visit.content_width <= visit.width <= width
        assert visit.beyond == []


def test_the_browser_notices_what_a_report_must_not_do(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "faulty.html").write_text(FAULTY)
    visit = browser.visit((tmp_path / "faulty.html").as_uri(), PHONE)
    assert any("oh" in complaint for complaint in visit.complaints)
    assert any("dear" in complaint for complaint in visit.complaints)
    assert "http://elsewhere.invalid/picture.png" in visit.requests
    assert visit.picture_widths == [0]
    assert visit.content_width > PHONE and "P" in visit.beyond
