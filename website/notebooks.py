"""Notebooks: read as pages of the site, and run so that what they show was really printed.

`python -m website.notebooks` runs those of the documents and writes their outputs into them.
"""

import ast
import base64
import io
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parent.parent / "docs" / "notebooks"


def text_of(lines: str | list[str]) -> str:
    """Return a text of a notebook, which has it whole or line by line."""
    return "".join(lines)


def run_cell(code: str, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Run a cell and yield its outputs: what it prints, and a figure that it ends with."""
    tree = ast.parse(code)
    last = tree.body[-1]
    printed = io.StringIO()
    value = None
    with redirect_stdout(printed):
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(tree.body[:-1], []), "notebook", "exec"), names)
            value = eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
        else:
            exec(compile(tree, "notebook", "exec"), names)
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        yield {"name": "stdout", "output_type": "stream", "text": lines}
    if value is not None:
        yield displayed(value)


def displayed(figure: Any) -> dict[str, Any]:
    """Return a figure of matplotlib as a notebook shows it."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=72, metadata={"Software": None})
    encoded = base64.b64encode(picture.getvalue()).decode()
    data = {"image/png": encoded, "text/plain": ["<Figure>"]}
    return {"data": data, "metadata": {}, "output_type": "display_data"}


def run_notebook(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook with the outputs that running it gives."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = []
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            outputs = list(run_cell(text_of(cell["source"]), names))
            cell = {**cell, "execution_count": count, "outputs": outputs}
        cells.append(cell)
    return {**notebook, "cells": cells}


def notebook_page(notebook: dict[str, Any]) -> str:
    """Return a notebook as Markdown: text, code, and what the code printed and drew."""
    return "\n\n".join(part for cell in notebook["cells"] for part in parts(cell)) + "\n"


def parts(cell: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of a cell as Markdown."""
    source = text_of(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            yield f"```text\n{text_of(output['text']).rstrip()}\n```"
        else:
            picture = text_of(output["data"]["image/png"]).strip()
            yield f"![What the cell above drew](data:image/png;base64,{picture})"


def write_outputs(path: Path) -> None:
    """Run a notebook and write it with its outputs."""
    ran = run_notebook(json.loads(path.read_text()))
    path.write_text(json.dumps(ran, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        print(path.name, file=sys.stderr)
        write_outputs(path)
