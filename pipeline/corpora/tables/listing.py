"""Any list of recordings that is understood, as a table with this project's columns."""

from pathlib import Path

from aalbert.errors import InputError
from aalbert.pipeline.corpora.tables.common_voice import from_common_voice, is_common_voice
from aalbert.pipeline.corpora.tables.embedded_audio import parquet_files, read_embedded
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
    """Read a table, NeMo's or Common Voice's list, lhotse's cuts, Kaldi's or Hugging Face's folder.

    The table has a column `path` and perhaps the others of `OWN_COLUMNS`; what remains are labels.
    Raises `InputError` for anything else, and for a column with times whose name is not ours.
    """
    table = read_list_folder(path) if path.is_dir() else read_table(path)
    if is_nemo(table):
        table = from_nemo(table)
    elif is_common_voice(table):
        table = from_common_voice(table, path.parent)
    check_meaning(path, table.columns)
    return table


def read_list_folder(folder: Path) -> Table:
    """Read a Kaldi data folder, or Parquet files with recordings in them."""
    if is_kaldi_folder(folder):
        return read_kaldi_folder(folder)
    if files := parquet_files(folder):
        return read_embedded(files)
    raise InputError(
        f"{folder} is a folder without Kaldi's {RECORDINGS} and without Parquet files: name a "
        f"table, or use 'aalbert prepare folder {folder}'"
    )


def is_listing(path: Path) -> bool:
    """Return whether a path is a list of recordings: a table by its name, or a folder of lists."""
    if path.is_dir():
        return is_kaldi_folder(path) or bool(parquet_files(path))
    return is_table(path)


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
