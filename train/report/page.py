"""What a report is made of: one HTML page, with tables and pictures inside, that loads nothing."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

# A browser that obeys the policy asks nobody for anything, whatever a name in the data holds.
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light; }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff;
       max-width: 46rem; margin: 0 auto; padding: 1rem; }}
h1 {{ font-size: 1.6rem; line-height: 1.2; }} h2 {{ font-size: 1.15rem; margin-top: 2.2rem; }}
h1, h2, p {{ overflow-wrap: anywhere; }}
.figure {{ font-size: 2.6rem; font-weight: 650; color: #0b7285; line-height: 1.1; }}
img {{ max-width: 100%; height: auto; }}
.wide {{ overflow-x: auto; margin: 1rem 0; }}
table {{ border-collapse: collapse; width: 100%; font-size: .92rem; }}
th, td {{ text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #e4e7eb;
         white-space: nowrap; font-variant-numeric: tabular-nums; }}
th:first-child, td:first-child {{ text-align: left; white-space: normal; min-width: 6rem;
         overflow-wrap: break-word; }}
.facts td {{ text-align: left; white-space: normal; vertical-align: top; }}
.facts td + td {{ overflow-wrap: anywhere; }}
tr.this td {{ font-weight: 650; background: #e6f4f6; }}
@media (max-width: 32rem) {{ th, td {{ padding: .3rem .35rem; }} }}
p.note {{ color: #52606d; font-size: .92rem; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return the whole page; `parts` are HTML already, empty ones leave no trace."""
    return PAGE.format(title=escape(title), body="\n".join(part for part in parts if part))


def section(title: str, *parts: str) -> str:
    """Return a titled part of the page."""
    return f"<h2>{escape(title)}</h2>\n" + "\n".join(part for part in parts if part)


def picture(source: str, description: str) -> str:
    """Return an image, a `data:` address, with the text that stands for it."""
    return f'<p><img src="{source}" alt="{escape(description)}"></p>'


def note(text: str) -> str:
    """Return a quiet paragraph of plain text."""
    return f'<p class="note">{escape(text)}</p>'


def preformatted(text: str) -> str:
    """Return text with its own line breaks, which scrolls where it is too wide."""
    return f'<div class="wide"><pre>{escape(text)}</pre></div>'


def table(header: Iterable[str], rows: Iterable[tuple[Sequence[str], bool]]) -> str:
    """Return a table; a row that is marked stands out."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        ('<tr class="this">' if marked else "<tr>")
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for cells, marked in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def facts(values: Mapping[str, str]) -> str:
    """Return a table of names and what they are."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(value)}</code></td></tr>"
        for name, value in values.items()
    )
    return f'<table class="facts">{rows}</table>'
