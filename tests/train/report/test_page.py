import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from aalbert.common import palette
from aalbert.train.report.page import ENVIRONMENT, render_page
from tests.html_page import HtmlPage

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "train" / "report" / "templates"
HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>&amp;{{ 7 * 7 }}"""
COLOUR = r"#(?:[0-9a-fA-F]{3}){1,2}\b"
MACROS = "{% from 'macros.html' import fact, facts, picture, row, section, table %}"


def filled(template: str, text: str) -> HtmlPage:
    return HtmlPage(ENVIRONMENT.from_string(MACROS + template).render(text=text))


def bare_page(title: str) -> str:
    child = ENVIRONMENT.from_string("{% extends 'base.html' %}{% block body %}{% endblock %}")
    return child.render(title=title)


@pytest.mark.parametrize(
    ("template", "elements"),
    [
        ("{% call section(text) %}{% endcall %}", {"h2"}),
        ("{% call table([text]) %}{% endcall %}", {"div", "table", "tr", "th"}),
        ("{{ row([text], marked=true) }}", {"tr", "td"}),
        ("{% call facts() %}{{ fact(text, 1) }}{% endcall %}", {"table", "tr", "td", "code"}),
        ("{{ fact('name', text) }}", {"tr", "td", "code"}),
        ("{{ fact('name', text ~ ', ' ~ {'a': text} | listed) }}", {"tr", "td", "code"}),
    ],
    ids=["section", "table", "row", "name of a fact", "value of a fact", "list of values"],
)
def test_text_stays_text_in_every_part_of_a_page(template: str, elements: set[str]) -> None:
    page = filled(template, HOSTILE)
    assert page.elements == elements and page.open == []
    assert page.attributes <= {"class", "dir"}
    assert HOSTILE in "".join(page.texts)


def test_text_stays_inside_its_attribute() -> None:
    page = filled("{{ picture(text, text) }}", HOSTILE)
    assert page.elements == {"p", "img"} and page.attributes == {"src", "alt"}
    assert page.references == page.descriptions == [HOSTILE]


def test_the_title_of_a_page_is_text() -> None:
    page = HtmlPage(bare_page(HOSTILE))
    assert HOSTILE in page.texts and "script" not in page.elements


@pytest.mark.parametrize("name", ["evaluation.html", "pretraining.html"])
def test_a_value_that_a_page_lacks_is_an_error(name: str) -> None:
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        render_page(name)


def test_a_section_or_picture_without_content_leaves_no_trace() -> None:
    page = "{% call section('t', none) %}{{ absent.value }}{% endcall %}{{ picture(none, 'd') }}"
    assert ENVIRONMENT.from_string(MACROS + page).render().strip() == ""


def test_no_template_switches_escaping_off() -> None:
    for path in TEMPLATES.iterdir():
        assert not re.search(r"\|\s*safe|autoescape|Markup", path.read_text()), path.name


def test_colours_are_stated_in_the_palette_alone() -> None:
    rooms = ("commands", "common", "pipeline", "shards", "models", "train")
    paths = [path for room in rooms for path in (ROOT / room).rglob("*")]
    files = [path for path in paths if path.suffix in (".py", ".html")]
    stating = [path for path in files if re.search(COLOUR, path.read_text())]
    assert stating == [ROOT / "common" / "palette.py"]
    style = bare_page("A page").partition("<style>")[2].partition("</style>")[0]
    stated = {value for value in vars(palette).values() if isinstance(value, str)}
    assert len(used := set(re.findall(COLOUR, style))) == 6 and used <= stated
