from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.errors import ConfigError, InputError
from aalbert.shards import Dataset
from aalbert.shards.views.listing import Filter, list_utterances, read_values


def expected_rows(dataset: Dataset) -> list[dict[str, object]]:
    """Return key, split, speaker and seconds of every row, from the table itself."""
    rows = dataset.table.select(["key", "split", "speaker", "samples"]).to_pylist()
    return [row | {"seconds": round(row.pop("samples") / 16_000, 3)} for row in rows]


def test_filters_leave_what_a_look_at_every_row_leaves(prepared: Path) -> None:
    dataset = Dataset(prepared)
    every = expected_rows(dataset)
    speakers = sorted({str(row["speaker"]) for row in every})
    middle = sorted(float(str(row["seconds"])) for row in every)[len(every) // 2]
    columns = ["key", "split", "speaker", "seconds"]
    assert list_utterances(dataset, Filter(), columns) == every
    chosen = Filter(values={"speaker": speakers[:2]}, shortest_s=middle)
    kept = [
        row
        for row in every
        if row["speaker"] in speakers[:2] and float(str(row["seconds"])) >= middle
    ]
    assert list_utterances(dataset, chosen, columns) == kept and 0 < len(kept) < len(every)
    assert list_utterances(dataset, chosen, columns, 1) == kept[:1]
    split = str(every[0]["split"])
    assert list_utterances(dataset, Filter(splits=[split]), columns) == [
        row for row in every if row["split"] == split
    ]


def test_values_given_for_one_column_are_either_of_them() -> None:
    assert read_values(["speaker=1", "speaker=2", "gender=F"]) == {
        "speaker": ["1", "2"],
        "gender": ["F"],
    }
    with pytest.raises(ConfigError, match="--where speaker: expected COLUMN=VALUE, such as"):
        read_values(["speaker"])


def test_what_is_not_there_is_named(prepared: Path) -> None:
    dataset = Dataset(prepared)
    with pytest.raises(InputError, match="has no column 'gendre': it has key, split"):
        list_utterances(dataset, Filter(values={"gendre": ["F"]}), ["key"])
    with pytest.raises(ConfigError, match="--min-seconds 3 must not be above --max-seconds 2"):
        Filter(shortest_s=3, longest_s=2)


def test_the_command_prints_a_key_a_line(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = Dataset(prepared).keys(range(len(Dataset(prepared))))
    assert main(["shards", "list", str(prepared)]) == 0
    assert capsys.readouterr().out.splitlines() == keys
    assert main(["shards", "list", str(prepared), "--where", "speaker=nobody"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "0 utterances\n"
    command = ["shards", "list", str(prepared), "--columns", "key,seconds", "--limit", "1"]
    assert main(command) == 0
    key, seconds = capsys.readouterr().out.split("\t")
    assert key == keys[0] and float(seconds) > 0
