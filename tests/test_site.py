"""The documents as a site: all are in it, their links lead somewhere, and it asks for nothing."""

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.browser import find_browser, open_browser
from tests.documents import DOCUMENTS, NOTEBOOKS, ROOT, anchors_of, markdown_of
from tests.test_migration import OPTIONS
from website.command_line import command_line_page
from website.figures import FIGURES, IMAGES
from website.notebooks import notebook_page, run_cell, run_notebook
from website.pages import PAGES, as_page, is_elsewhere, links_of, place_on_site
from website.python_api import API_PAGES

SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
NUMBER = re.compile(r"\d+\.\d+")


def pages_of(entry: Any) -> list[str]:
    """Return the pages of an entry of the table of contents."""
    if isinstance(entry, str):
        return [entry]
    entries = entry if isinstance(entry, list) else entry.values()
    return [page for each in entries for page in pages_of(each)]


def test_every_document_is_once_in_the_table_of_contents() -> None:
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("*.md")}
    listed = pages_of(SETTINGS["nav"])
    assert len(listed) == len(set(listed))
    assert set(listed) == {*written, *PAGES.values(), *API_PAGES, "command-line.md"}


def test_every_notebook_and_file_beside_the_documents_is_on_the_site() -> None:
    assert {ROOT / file for file in PAGES} == set(DOCUMENTS) - set((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere_in_the_repository_and_on_the_site(document: Path) -> None:
    for target in links_of(markdown_of(document)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        named = (document.parent / path).resolve() if path else document
        assert named.is_file(), f"{target} leads to no file"
        place_on_site(named.relative_to(ROOT).as_posix())
        if anchor:
            assert anchor in anchors_of(named), f"{target} leads to no heading"


@pytest.mark.parametrize(
    ("file", "text", "on_site"),
    [
        ("README.md", "[a](docs/prepare.md#features)", "[a](prepare.md#features)"),
        ("README.md", "![a](docs/images/show.png)", "![a](images/show.png)"),
        ("docs/loader.md", "[a](../shards/README.md)", "[a](shard-format.md)"),
        ("docs/loader.md", "[a](prepare.md)", "[a](prepare.md)"),
        ("shards/README.md", "[a](../docs/loader.md)", "[a](loader.md)"),
        ("docs/notebooks/model_and_layers.ipynb", "[a](../models.md)", "[a](../models.md)"),
        ("docs/prepare.md", "[a](notebooks/model_and_layers.ipynb)",
         "[a](notebooks/model_and_layers.md)"),
        ("README.md", "[a](https://arxiv.org/x) [b](#results)",
         "[a](https://arxiv.org/x) [b](#results)"),
        ("README.md", "`[a](docs/prepare.md)`", "`[a](docs/prepare.md)`"),
        ("README.md", "```python s3prl\nx = a[0](docs/x)\n```", "```python\nx = a[0](docs/x)\n```"),
    ],
)  # fmt: skip
def test_links_are_those_of_the_site(file: str, text: str, on_site: str) -> None:
    assert as_page(text, file) == on_site


def test_a_link_to_what_is_not_on_the_site_is_refused() -> None:
    with pytest.raises(KeyError, match="lock/dev.txt is not on the site: add it to website/pages"):
        as_page("[a](lock/dev.txt)", "README.md")
    assert is_elsewhere("mailto:somebody") and not is_elsewhere("docs/prepare.md")


def test_the_page_of_the_command_line_has_every_option_of_every_command() -> None:
    sections = re.split(r"^#+ aalbert ", command_line_page(), flags=re.M)[1:]
    text_of = {section.partition("\n")[0]: section for section in sections}
    assert text_of.keys() == OPTIONS.keys()
    for command, options in OPTIONS.items():
        shown = set(re.findall(r"--[\w-]+", text_of[command]))
        assert {option for option in options if option.startswith("--")} <= shown, command
    assert "```sh\naalbert demo\n```" in text_of["demo"]
    assert r"\[default: demo\]" in text_of["demo"]


@pytest.mark.parametrize("name", [name for page in API_PAGES.values() for name in page.names])
def test_every_name_on_the_pages_of_python_exists_and_says_what_it_is(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError:
        found = getattr(importlib.import_module(module), attribute)
    assert found.__doc__


def test_what_the_documents_import_is_on_the_pages_of_python() -> None:
    names = {name for page in API_PAGES.values() for name in page.names}
    text = "\n".join(document.read_text() for document in DOCUMENTS if document.suffix == ".md")
    found = re.findall(r"^from (aalbert[\w.]*) import (.*)$", text, re.M)
    imported = {f"{module}.{name}" for module, line in found for name in line.split(", ")}
    assert len(imported) > 15
    # A module that s3prl finds its upstream in.
    assert imported - names == {"aalbert.pipeline.s3prl_expert"}


@pytest.mark.parametrize("name", FIGURES)
def test_the_drawn_figures_are_those_of_the_code(name: str) -> None:
    assert (IMAGES / name).read_text() == FIGURES[name]().svg(), "python -m website.figures"


def cells_of(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cells with code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any]) -> str:
    """Return what a cell prints."""
    return "".join("".join(output.get("text", [])) for output in cell["outputs"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_shown_as_it_ran(path: Path) -> None:
    notebook = json.loads(path.read_text())
    cells = cells_of(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell["outputs"] for cell in cells)
    page = notebook_page(notebook)
    for cell in cells:
        assert "".join(cell["source"]) in page and printed(cell).rstrip() in page


def test_a_cell_shows_what_it_prints_and_the_figure_that_it_ends_with() -> None:
    names: dict[str, Any] = {}
    [first] = run_cell("from matplotlib.figure import Figure\nx = 2\nprint(x)", names)
    assert first == {"name": "stdout", "output_type": "stream", "text": ["2\n"]}
    [second] = run_cell("Figure()", names)
    assert second["data"]["image/png"].startswith("iVBORw0KGgo")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_prints_what_it_shows(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shown = json.loads(path.read_text())
    for was, now in zip(cells_of(shown), cells_of(run_notebook(shown)), strict=True):
        texts = printed(was), printed(now)
        assert NUMBER.sub("", texts[0]) == NUMBER.sub("", texts[1])
        numbers = [[float(each) for each in NUMBER.findall(text)] for text in texts]
        assert numbers[1] == pytest.approx(numbers[0], rel=0.1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("`make docs` installs mkdocs")
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return folder


@pytest.mark.slow
def test_the_site_asks_for_nothing(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 35
    parts = re.compile(
        r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)="?(?:https?:)?//"""
    )
    assert {page.name: found for page in pages if (found := parts.findall(page.read_text()))} == {}


@pytest.mark.slow
def test_the_site_is_searched_from_a_folder(site: Path, tmp_path: Path) -> None:
    program = find_browser()
    if program is None:
        pytest.skip("there is no browser")
    with open_browser(program, tmp_path) as browser:
        visit = browser.visit((site / "index.html").as_uri(), 1280)
        browser.evaluate(
            "(field => { field.focus(); field.value = 'cohort';"
            " field.dispatchEvent(new Event('keyup')); return true; })"
            "(document.querySelector('.md-search__input'))"
        )
        found = ""
        for _ in range(100):
            found = browser.evaluate("document.querySelector('.md-search-result').innerText")
            if "Downstream" in found:
                break
            browser.call(
                "Runtime.evaluate",
                expression="new Promise(r => setTimeout(r, 100))",
                awaitPromise=True,
            )
        assert "Downstream" in found
        assert visit.complaints == [] and browser.complaints() == []
        asked = [
            event for event in browser.events if event.get("method") == "Network.requestWillBeSent"
        ]
        urls = [event["params"]["request"]["url"] for event in asked]
        assert urls and all(url.startswith(("file:", "data:", "about:")) for url in urls)
