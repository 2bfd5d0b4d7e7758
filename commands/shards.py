"""The commands `aalbert shards ...`, which look inside a dataset."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aalbert.commands.completion import complete_keys
from aalbert.commands.console import AsJson, show
from aalbert.commands.help import Group
from aalbert.common.notes import note
from aalbert.common.text import text_table

if TYPE_CHECKING:
    from aalbert.shards.reading.dataset import Dataset
    from aalbert.shards.views.stats import Survey

shards_app = typer.Typer(
    cls=Group, help="Look inside a dataset: its contents and its integrity.", no_args_is_help=True
)

Directory = Annotated[
    str, typer.Argument(help="The folder, or URL, that 'aalbert prepare' wrote.", metavar="DIR")
]


@shards_app.command("info")
def info(directory: Directory, as_json: AsJson = False) -> None:
    """Show the contents of a dataset: splits, hours, features with all settings, skipped inputs.

    Example: aalbert shards info data/librispeech
    """
    from aalbert.shards.views.info import describe, description_text

    document = describe(directory)
    show(document, as_json, "" if as_json else description_text(document))


@shards_app.command("list")
def list_keys(
    directory: Directory,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this split; give it again for more."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Only utterances with this value, such as speaker=84; give it again for more.",
        ),
    ] = None,
    min_seconds: Annotated[
        float, typer.Option(metavar="SECONDS", help="Only utterances of at least this length.")
    ] = 0.0,
    max_seconds: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Only utterances of at most this length."),
    ] = None,
    columns: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME",
            help="Columns of the index to print, tabs between them; seconds is one too.",
        ),
    ] = "key",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Print at most so many utterances.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the utterances of a dataset by their keys, one a line, all or those that fit.

    Example: aalbert shards list data/librispeech --split dev-clean --columns key,speaker,seconds
    """
    from aalbert.shards.reading.dataset import Dataset
    from aalbert.shards.views.listing import Filter, list_utterances, read_values

    chosen = Filter(
        splits=split or (),
        values=read_values(where or ()),
        shortest_s=min_seconds,
        longest_s=float("inf") if max_seconds is None else max_seconds,
    )
    names = [name.strip() for name in columns.split(",")]
    listed = list_utterances(Dataset(directory), chosen, names, limit)
    lines = ("\t".join(map(cell, each.values())) for each in listed)
    if listed or as_json:
        show(listed, as_json, "" if as_json else "\n".join(lines))
    note("1 utterance" if len(listed) == 1 else f"{len(listed):,} utterances")


def cell(value: object) -> str:
    """Return a value for a line of fields between tabs; what is unknown is empty."""
    return "" if value is None else " ".join(str(value).split())


@shards_app.command("verify")
def verify(directory: Directory, as_json: AsJson = False) -> None:
    """Check every byte of a dataset; list each file and utterance that is not as written.

    Example: aalbert shards verify data/librispeech
    """
    from aalbert.errors import IntegrityError

    document = verify_with_progress(directory)
    problems = document["problems"]
    places = [f"{problem['path']}: {problem['what']}" for problem in problems]
    speed = f"{document['gigabytes_per_second']:.2f} GB/s"
    intact = f"{document['files']:,} files, {document['bytes']:,} bytes: all as written ({speed})"
    show(document, as_json, "\n".join(places) or intact)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
        raise IntegrityError(
            f"{document['data']} has {count}, the first: {places[0]}; restore what is damaged, or "
            f"delete {document['data']} and prepare the data again"
        )


def verify_with_progress(directory: str) -> dict[str, Any]:
    """Verify a dataset with a progress bar on stderr and return the result."""
    from aalbert.common.progress import BYTES, progress_bar
    from aalbert.common.signals import stop_if_asked, stoppable
    from aalbert.shards.reading.place import open_place
    from aalbert.shards.verification.verify import file_sizes, verify

    place = open_place(directory)
    sizes = file_sizes(place)
    size = sum(sizes.values())
    started = time.perf_counter()
    with stoppable(), progress_bar("verify", total=size, unit=BYTES) as bar:

        def advance(size: int) -> None:
            bar.update(size)
            stop_if_asked()

        problems = verify(place, advance)
    seconds = time.perf_counter() - started
    return {
        "data": place.name,
        "files": len(sizes),
        "bytes": size,
        "seconds": seconds,
        "gigabytes_per_second": size / 1e9 / seconds,
        "problems": [
            {"path": problem.path, "where": problem.where, "what": problem.what}
            for problem in problems
        ],
    }


@shards_app.command("show")
def show_utterance(
    directory: Directory,
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="The key of the utterance; 'aalbert shards list DIR' has them.",
            autocompletion=complete_keys,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Picture to write; KEY.png by default.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show all facts about one utterance, and draw its features.

    Example: aalbert shards show data/librispeech 84-121123-0000
    """
    from aalbert.errors import require
    from aalbert.shards.reading.dataset import Dataset
    from aalbert.shards.views.show import about_row, row_of

    dataset = Dataset(directory)
    row = row_of(dataset, key)
    about = about_row(dataset, row)
    path = out or Path(f"{key}.png")
    require(path.suffix == ".png", f"--out {path}: pictures are PNG, the name must end in .png")
    draw_utterance(dataset, row, about, path)
    show({**about, "picture": str(path)}, as_json, about_text({**about, "picture": str(path)}))


def draw_utterance(dataset: "Dataset", row: int, about: dict[str, Any], path: Path) -> None:
    """Write the picture of an utterance's features."""
    from aalbert.common.png import drawable
    from aalbert.shards.views.pictures import save, utterance_figure

    settings = dataset.manifest.features
    arrays = {name: dataset.features(row, name) for name in settings}
    speaker = about["speaker"]
    spoken_by = f"speaker {drawable(speaker)}, " if speaker is not None else ""
    about_it = f"{spoken_by}{drawable(about['split'])}, {about['duration_s']:.2f} s"
    title = f"{drawable(about['key'])}: {about_it}"
    save(utterance_figure(arrays, settings, title), path)


def about_text(about: dict[str, Any]) -> str:
    """Return the facts about an utterance as text, one per line."""
    lines = {**about, "flags": ", ".join(about["flags"]) or "none"}
    for name, place in lines.pop("features").items():
        lines[name] = ", ".join(f"{what} {value}" for what, value in place.items())
    return text_table(
        [(name, "unknown" if value is None else str(value)) for name, value in lines.items()]
    )


@shards_app.command("stats")
def stats(
    directory: Directory,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for pictures.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the durations, speakers and flags of the utterances.

    Example: aalbert shards stats data/librispeech --out pictures
    """
    from aalbert.shards.reading.dataset import Dataset
    from aalbert.shards.views.stats import survey, survey_text

    dataset = Dataset(directory)
    found = survey(dataset)
    written = draw_survey(dataset, found, out) if out else []
    document = {"data": dataset.place, **found.to_dict(), "pictures": [str(p) for p in written]}
    pictures = [f"written: {', '.join(document['pictures'])}"] if written else []
    show(document, as_json, "\n".join([survey_text(document), *pictures]))


def draw_survey(dataset: "Dataset", found: "Survey", out: Path) -> list[Path]:
    """Write the pictures of a dataset's utterances and return their paths."""
    from aalbert.shards.views.pictures import duration_figure, save, speaker_figure, spectrum_figure

    figures = {"durations": duration_figure(found.durations)}
    if found.speakers.names:
        figures["speakers"] = speaker_figure(found.speakers)
    for name, statistics in dataset.manifest.statistics.items():
        settings = dataset.manifest.features[name]
        figures[f"spectrum-{name}"] = spectrum_figure(name, statistics, settings)
    paths = [out / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        save(figure, path)
    return paths
