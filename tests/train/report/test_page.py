import hashlib
import html
import re
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError

from aalbert.common import palette
from aalbert.train.report.page import ENVIRONMENT, css_width, readable, render_page, told
from aalbert.train.report.spectrograms import coloured_png
from tests.html_page import HtmlPage

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "train" / "report" / "templates"
HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>&amp;{{ 7 * 7 }}"""
COLOUR = r"#(?:[0-9a-fA-F]{3}){1,2}\b"
MACROS = "{% from 'macros.html' import fact, facts, picture, row, section, table %}"


TABLE = {"div", "table", "thead", "tbody", "tr", "th", "button"}
PNG = "data:image/png;base64," + b64encode(coloured_png(np.zeros((1, 90)))).decode()


def filled(template: str, text: str) -> HtmlPage:
    return HtmlPage(ENVIRONMENT.from_string(MACROS + template).render(text=text))


def bare_page(title: str) -> str:
    return page_of("", title)


def page_of(body: str, title: str = "A page") -> str:
    source = "{% extends 'base.html' %}{% block head %}{% endblock %}{% block body %}"
    return ENVIRONMENT.from_string(MACROS + source + body + "{% endblock %}").render(title=title)


@pytest.mark.parametrize(
    ("template", "elements"),
    [
        ("{% call section(text) %}{% endcall %}", {"h2"}),
        ("{% call table([text]) %}{% endcall %}", TABLE),
        ("{{ row([text], marked=true) }}", {"tr", "td"}),
        (
            "{% call facts() %}{{ fact(text, 1) }}{% endcall %}",
            {"table", "tbody", "tr", "td", "code"},
        ),
        ("{{ fact('name', text) }}", {"tr", "td", "code"}),
        ("{{ fact('name', text ~ ', ' ~ {'a': text} | listed) }}", {"tr", "td", "code"}),
    ],
    ids=["section", "table", "row", "name of a fact", "value of a fact", "list of values"],
)
def test_text_stays_text_in_every_part_of_a_page(template: str, elements: set[str]) -> None:
    page = filled(template, HOSTILE)
    assert page.elements == elements and page.open == []
    assert page.attributes <= {"class", "dir", "id", "type", "disabled"}
    assert HOSTILE in "".join(page.texts)


def test_text_stays_inside_its_attribute() -> None:
    source = MACROS + "{{ picture(source, text) }}"
    page = HtmlPage(ENVIRONMENT.from_string(source).render(text=HOSTILE, source=PNG))
    assert page.elements == {"figure", "img"}
    assert page.attributes == {"class", "src", "width", "alt"}
    assert page.references == [PNG] and page.descriptions == [HOSTILE]


def test_two_dots_of_a_picture_are_a_pixel_of_the_page() -> None:
    assert css_width(PNG) == 45


def test_the_contents_name_the_sections_in_their_order_as_text() -> None:
    sections = "".join(
        f"{{% call section({title!r}) %}}<p>text</p>{{% endcall %}}"
        for title in ("Where it is weak", "A <b> & 'c'")
    )
    source = page_of(sections)
    page = HtmlPage(source)
    places = [reference for reference in page.references if reference.startswith("#")]
    assert places == ["#where-it-is-weak", "#a-b-c"]
    assert [f'id="{place[1:]}"' in source for place in places] == [True, True]
    start = page.texts.index("Where it is weak")
    titles = [text for text in page.texts[start:] if text.strip()]
    assert titles[:2] == ["Where it is weak", "A <b> & 'c'"]


def test_the_policy_allows_the_script_of_the_page_alone() -> None:
    page = bare_page("A page")
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = page.partition('content="default-src')[2].partition('"')[0]
    assert f"script-src 'sha256-{digest}'" in html.unescape(policy)
    assert "http" not in page.replace("http-equiv", "") and "script-src 'unsafe" not in policy


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        (1800, "1800"),
        (85_400_000, "85,400,000"),
        (0.26044467091560364, "0.2604"),
        (1e-10, "1e-10"),
        ([""], ""),
        (["a", "", "b"], "a, b"),
        ({"corpus_mean": 0.76053, "wave": {"loudness_db": None, "gain_db": 1.5}},)
        + ("corpus mean 0.7605, wave gain db 1.5",),
        ("a_name <b>", "a_name <b>"),
    ],
)
def test_settings_are_shown_as_people_read_them(value: object, text: str) -> None:
    assert readable(value) == text


def test_what_is_empty_is_not_told() -> None:
    facts = {"corpus": "librispeech", "hub_datasets": [""], "exported_step": 1800, "B_a": 1}
    assert told(facts) == [("corpus", "librispeech"), ("exported step", "1800"), ("B_a", "1")]


def test_the_title_of_a_page_is_text() -> None:
    page = HtmlPage(bare_page(HOSTILE))
    # The page has one of its own.
    assert HOSTILE in page.texts and [tag for tag, *_ in page.shape].count("script") == 1


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
    files = [path for path in paths if path.suffix in (".py", ".html", ".css", ".js")]
    stating = [path for path in files if re.search(COLOUR, path.read_text())]
    assert stating == [ROOT / "common" / "palette.py"]
    style = bare_page("A page").partition("<style>")[2].partition("</style>")[0]
    values = [value for value in vars(palette).values() if isinstance(value, str | tuple)]
    stated = {each for value in values for each in ((value,) if isinstance(value, str) else value)}
    assert len(used := set(re.findall(COLOUR, style))) > 20 and used <= stated
