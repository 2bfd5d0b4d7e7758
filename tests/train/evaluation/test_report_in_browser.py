"""Reports in a real browser: their layout, charts, tables, colours and recordings."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aalbert.commands.waves import wave_corpus
from aalbert.train.evaluation.evaluate import Evaluation
from aalbert.train.evaluation.report import report_page
from tests.browser import Browser, find_browser, open_browser

DESKTOP, PHONE = 1280, 390
HEAVIEST_BYTES = 3_000_000
FAULTY = """<!doctype html><title>faulty</title>
<meta name="viewport" content="width=device-width">
<img src="http://elsewhere.invalid/picture.png">
<p style="width: 900px">wide</p><script>console.error("oh"); throw new Error("dear")</script>"""
# Pairs of texts of one chart that cover each other, with a pixel of grace.
OVERLAPS = """Array.from(document.querySelectorAll('.plot > svg'), chart => {
  const texts = Array.from(chart.querySelectorAll('text'), text =>
    [text.textContent, text.getBoundingClientRect()]);
  return texts.flatMap(([one, a], place) => texts.slice(place + 1).filter(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 5).map(([other]) => [one, other]));
}).flat()"""
CHARTS = """Array.from(document.querySelectorAll('.plot > svg'), chart => [
  chart.getAttribute('aria-label'), chart.getBoundingClientRect().width,
  Array.from(chart.querySelectorAll('text'), text => parseFloat(getComputedStyle(text).fontSize)),
  chart.querySelectorAll('.mark title, image').length,
])"""
# The contrast (WCAG) of every kind of text with the page behind it.
CONTRAST = """(() => {
  const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(each => each / 255)
    .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
  const paper = light(getComputedStyle(document.body).backgroundColor);
  return Array.from(document.querySelectorAll('body, p, a, td, text, li, figcaption'), each => {
    const style = getComputedStyle(each);
    const own = light(each.matches('text') ? style.fill : style.color);
    return (Math.max(own, paper) + 0.05) / (Math.min(own, paper) + 0.05);
  }).reduce((least, each) => Math.min(least, each));
})()"""
COLUMN = """Array.from(document.querySelectorAll('table')[{table}].tBodies[0].rows,
  row => row.cells[{column}].textContent)"""


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no chromium is installed")
    with open_browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def pages(evaluations: list[Evaluation], pretrained: Path) -> list[Path]:
    comparison = evaluations[0].measured.folder.comparison
    return [
        *(each.measured.folder.report.resolve() for each in evaluations),
        comparison.resolve(),
        (pretrained / "report.html").resolve(),
    ]


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_a_report_opens_without_complaints_requests_or_overflow(
    width: int, browser: Browser, pages: list[Path]
) -> None:
    for report in pages:
        visit = browser.visit(report.as_uri(), width)
        assert visit.complaints == []
        assert visit.requests == []
        assert min(visit.picture_widths, default=DESKTOP) > 60
        assert visit.content_width <= visit.width <= width
        assert visit.beyond == []
        assert report.stat().st_size < HEAVIEST_BYTES


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_texts_of_charts_are_as_large_as_those_of_tables_and_never_overlap(
    width: int, browser: Browser, pages: list[Path]
) -> None:
    for report in pages:
        browser.visit(report.as_uri(), width)
        size = browser.evaluate(
            "parseFloat(getComputedStyle(document.querySelector('td')).fontSize)"
        )
        charts = browser.evaluate(CHARTS)
        assert len(charts) >= 3
        for description, drawn, sizes, saying in charts:
            assert description and drawn > 0.4 * min(width, 700)
            assert set(sizes) <= {size}
            assert saying > 0, description
        assert browser.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_texts_are_legible_in_light_and_in_dark(
    scheme: str, browser: Browser, pages: list[Path]
) -> None:
    browser.prefer(scheme)
    for report in pages:
        browser.visit(report.as_uri(), DESKTOP)
        paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") is (scheme == "light")
        assert browser.evaluate(CONTRAST) > 4.5
    browser.prefer("light")


def test_a_table_sorts_by_a_header_with_the_mouse_and_with_the_keyboard(
    browser: Browser, pages: list[Path]
) -> None:
    browser.visit(pages[2].as_uri(), DESKTOP)
    before = browser.evaluate(COLUMN.format(table=0, column=2))
    values = [float(text.split()[0]) for text in before if text]
    button = "document.querySelectorAll('table')[0].querySelectorAll('th button')[2]"
    order = f"{button}.closest('th').getAttribute('aria-sort')"
    assert browser.evaluate(order) is None
    browser.evaluate(f"{button}.click()")
    assert browser.evaluate(order) == "ascending"
    rising = browser.evaluate(COLUMN.format(table=0, column=2))
    assert [float(text.split()[0]) for text in rising if text] == sorted(values)
    browser.evaluate(f"{button}.focus()")
    browser.press("Enter")
    assert browser.evaluate(order) == "descending"
    falling = browser.evaluate(COLUMN.format(table=0, column=2))
    assert [float(text.split()[0]) for text in falling if text] == sorted(values, reverse=True)
    # An interval is empty for baselines, which stay last.
    browser.evaluate(button.replace("[2]", "[3]") + ".click()")
    intervals = browser.evaluate(COLUMN.format(table=0, column=3))
    assert intervals[:2] == sorted(intervals[:2]) and set(intervals[2:]) == {""}
    assert browser.evaluate("document.querySelectorAll('[aria-sort]').length") == 1
    assert browser.complaints() == []


def test_a_mark_that_is_pointed_at_says_its_numbers_at_once(
    browser: Browser, pages: list[Path]
) -> None:
    # A screenshot would move what is pointed at.
    browser.open(pages[2].as_uri())
    stated = browser.evaluate("document.querySelector('.mark title').textContent")
    browser.point_at(".mark .shape")
    assert browser.evaluate("document.querySelector('.tip').textContent") == stated
    assert "accuracy" in stated
    # The browser's own would be a second one.
    assert browser.evaluate("document.querySelector('.mark title')?.textContent") != stated
    browser.press("Escape")
    assert browser.evaluate("document.querySelectorAll('.tip').length") == 0


def test_what_is_beyond_the_edge_of_a_phone_has_a_sign(browser: Browser, pages: list[Path]) -> None:
    browser.visit(pages[2].as_uri(), PHONE)
    wide = browser.evaluate(
        "Array.from(document.querySelectorAll('.wide'), each => ["
        "each.scrollWidth > each.clientWidth,"
        "getComputedStyle(each).backgroundImage.includes('gradient'), each.tabIndex])"
    )
    assert any(overflows for overflows, _, _ in wide)
    for overflows, shadow, focus in wide:
        assert shadow and (focus == 0) is overflows


def test_a_report_is_whole_without_javascript(browser: Browser, pages: list[Path]) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        for report in pages:
            visit = browser.visit(report.as_uri(), PHONE)
            assert visit.complaints == [] and visit.beyond == []
            links = browser.evaluate(
                "Array.from(document.querySelectorAll('nav a'), link => "
                "document.querySelector(link.getAttribute('href'))?.getBoundingClientRect().height)"
            )
            assert len(links) >= 3 and all(height and height > 0 for height in links)
            charts = browser.evaluate("document.querySelectorAll('.plot > svg').length")
            assert charts >= 3
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_recordings_of_examples_play_in_a_page_that_loads_nothing(
    browser: Browser, evaluations: list[Evaluation], voxceleb1_data: Path, tmp_path: Path
) -> None:
    corpus = wave_corpus(str(voxceleb1_data.parent / "corpus"), to_listen=True)
    page = tmp_path / "report.html"
    page.write_text(report_page(evaluations[0], corpus))
    visit = browser.visit(page.as_uri(), PHONE)
    assert visit.complaints == [] and visit.requests == [] and visit.beyond == []
    seconds = browser.evaluate(
        "Array.from(document.querySelectorAll('audio'), each => each.duration)"
    )
    assert len(seconds) > 1 and all(0.5 < each <= 4.0 for each in seconds)
    assert page.stat().st_size < HEAVIEST_BYTES


def test_the_browser_notices_what_a_report_must_not_do(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "faulty.html").write_text(FAULTY)
    visit = browser.visit((tmp_path / "faulty.html").as_uri(), PHONE)
    assert any("oh" in complaint for complaint in visit.complaints)
    assert any("dear" in complaint for complaint in visit.complaints)
    assert "http://elsewhere.invalid/picture.png" in visit.requests
    assert visit.picture_widths == [0]
    assert visit.content_width > PHONE and "P" in visit.beyond
