"""Any list of recordings that is understood, as a table with this project's columns."""

from pathlib import Path

from aalbert.errors import InputError
from aalbert.pipeline.corpora.tables.common_voice import from_common_voice, is_common_voice
from aalbert.pipeline.corpora.tables.kaldi import RECORDINGS, is_kaldi_folder, read_kaldi_folder
from aalbert.pipeline.corpora.tables.nemo import from_nemo, is_nemo
from aalbert.pipeline.corpora.tables.table import Table
from aalbert.pipeline.corpora.tables.table_file import is_table, read_table

OWN_COLUMNS = ("path", "key", "speaker", "split", "start", "end")
# Other names for the times of a part: were they labels, the whole recording would be taken.
UNITS = ("time", "s", "ms", "sec", "seconds", "sample", "samples", "frame")
TIMES = frozenset(
    {"offset", "begin", "onset", "stop"}
    | {f"{name}_{unit}" for name in ("start", "end", "begin", "stop", "offset") for unit in UNITS}
)


def read_listing(path: Path) -> Table:
    """Read a table, NeMo's or Common Voice's list, lhotse's cuts, or a Kaldi data folder.

    The table has a column `path` and perhaps the others of `OWN_COLUMNS`; what remains are labels.
    Raises `InputError` for anything else, and for a column with times whose name is not ours.
    """
    if path.is_dir():
        if not is_kaldi_folder(path):
            raise InputError(
                f"{path} is a folder without Kaldi's {RECORDINGS}: name a table, or use "
                f"'aalbert prepare folder {path}'"
            )
        return read_kaldi_folder(path)
    table = read_table(path)
    if is_nemo(table):
        table = from_nemo(table)
    elif is_common_voice(table):
        table = from_common_voice(table, path.parent)
    check_meaning(path, table.columns)
    return table


def is_listing(path: Path) -> bool:
    """Return whether a path is a list of recordings: a table by its name, or Kaldi's folder."""
    return is_kaldi_folder(path) if path.is_dir() else is_table(path)


def check_meaning(path: Path, columns: tuple[str, ...]) -> None:
    """Raise `InputError` for columns that may say which part of a recording is meant."""
    times = [name for name in columns if name.lower() in TIMES]
    if "start" in columns and "end" not in columns:
        times += [name for name in columns if name == "duration"]
    if times:
        raise InputError(
            f"{path} has the column '{times[0]}', which may say what part of a recording is meant: "
            "name the seconds of a part 'start' and 'end', or give the column another name"
        )
