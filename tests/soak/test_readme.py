from pathlib import Path

from tests.soak.kinds import KINDS, RIGHT, Kind


def row(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def promised(kind: Kind) -> list[str]:
    codes = [outcome.removeprefix("exit ") for outcome in kind.outcomes if outcome != RIGHT]
    return [kind.name, "yes" if RIGHT in kind.outcomes else "no", ", ".join(codes)]


def test_the_table_shows_every_kind_and_what_may_come_of_it() -> None:
    lines = Path(__file__).with_name("README.md").read_text("utf-8").splitlines()
    rows = [row(line) for line in lines if line.startswith("| ")][1:]
    assert [[cells[0], *cells[2:]] for cells in rows] == [promised(kind) for kind in KINDS.values()]
