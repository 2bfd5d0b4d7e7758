"""What mkdocs calls while it builds the site: pages that are not files in `docs/`, and links."""

import json
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website.command_line import command_line_page
from website.notebooks import notebook_page
from website.pages import FILES, PAGES, ROOT, as_page
from website.python_api import API_PAGES

ASSETS = ("iframe-worker.js", "site.css")


def page_text(file: str) -> str:
    """Return a document beside `docs/` as a page in Markdown."""
    text = (ROOT / file).read_text()
    if not file.endswith(".ipynb"):
        return as_page(text, file)
    name = Path(file).name
    download = f"[{name}]({name}) is this page as a notebook, to be run.\n"
    return as_page(notebook_page(json.loads(text)), file) + f"\n{download}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are elsewhere in the repository, or are made of the code."""
    made = {place: page_text(file) for file, place in PAGES.items()}
    made |= {place: page.markdown() for place, page in API_PAGES.items()}
    made["command-line.md"] = command_line_page()
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    copied = {place: ROOT / file for file, place in FILES.items()}
    copied |= {f"assets/{name}": Path(__file__).parent / name for name in ASSETS}
    for place, path in copied.items():
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Give a page of `docs/` the links that its targets have on the site."""
    if page.file.generated_by is not None:
        return markdown
    return as_page(markdown, f"docs/{page.file.src_uri}")
