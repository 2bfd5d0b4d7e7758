import shutil
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from aalbert.errors import ConfigError, InputError, OutputInUseError
from aalbert.pipeline.corpora.attachment import attach
from aalbert.pipeline.corpora.corpus import Corpus
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare import prepare as prepare_module
from aalbert.pipeline.prepare import work_folder
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.output import LocalOutput, Output
from aalbert.pipeline.prepare.plan import make_plan
from aalbert.pipeline.prepare.prepare import PrepareLimits, finalize, prepare, prepare_part
from aalbert.pipeline.prepare.work_folder import Part, claim, find_records, make_record, parse_part
from tests.trees import tree

ENGINE = LocalEngine(workers=1)


@pytest.fixture
def corpus(librispeech_folder: Path) -> Corpus:
    return read_librispeech(librispeech_folder)


def run_part(
    corpus: Corpus, out: Path, config: PrepareConfig, number: int, count: int
) -> list[str] | None:
    return prepare_part(corpus, out, config, ENGINE, Part(number=number, count=count))


def test_three_parts_and_finalize_write_the_bytes_of_one_run(
    prepared: Path, corpus: Corpus, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    missing = [run_part(corpus, out, small_config, number, 3) for number in (3, 1, 2)]
    assert missing == [["1/3", "2/3"], ["2/3"], []]
    manifest = finalize(out, max_skipped=0.001)
    assert manifest.utterances == len(corpus.utterances)
    assert tree(out) == tree(prepared)


def test_parts_may_run_at_the_same_time(
    prepared: Path, corpus: Corpus, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    context = get_context("spawn")
    processes = [
        context.Process(target=run_part, args=(corpus, out, small_config, number, 2))
        for number in (1, 2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    finalize(out, max_skipped=0.001)
    assert tree(out) == tree(prepared)


def test_the_parts_are_disjoint_and_cover_the_plan(
    corpus: Corpus, small_config: PrepareConfig
) -> None:
    tasks = make_plan(corpus, small_config)
    chosen = [Part(number=number, count=4).choose(tasks) for number in (1, 2, 3, 4)]
    names = [task.name for part in chosen for task in part]
    assert sorted(names) == sorted(task.name for task in tasks)


def test_finalize_before_all_parts_are_done_names_what_is_missing(
    corpus: Corpus, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    run_part(corpus, out, small_config, 2, 3)
    tasks = make_plan(corpus, small_config)
    with pytest.raises(OutputInUseError) as caught:
        finalize(out, max_skipped=0.001)
    missing = len(tasks) - len(tasks[1::3])
    assert str(caught.value) == (
        f"{out} is not finished: {missing} of {len(tasks)} shards are missing, for example "
        f"{tasks[0].name}; run the missing parts (--part 1/3, 3/3)"
    )


def test_finalize_of_nothing_names_the_command_to_start_with(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        finalize(tmp_path / "data", max_skipped=0.001)
    assert str(caught.value) == (
        f"there is no unfinished dataset in {tmp_path / 'data'}: compute its parts first with "
        "'aalbert prepare CORPUS DIR --part I/N'"
    )


def test_finalize_of_a_finished_dataset_changes_nothing(dataset_copy: Path) -> None:
    before = tree(dataset_copy)
    finalize(dataset_copy, max_skipped=0.001)
    assert tree(dataset_copy) == before


def test_parts_of_another_count_are_refused(
    corpus: Corpus, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    run_part(corpus, out, small_config, 1, 3)
    with pytest.raises(OutputInUseError) as caught:
        run_part(corpus, out, small_config, 1, 2)
    assert str(caught.value) == (
        f"{out} is being prepared in 3 parts: use --part I/3, or leave out --part to do all "
        "the rest"
    )


def test_a_part_of_another_corpus_is_refused(
    corpus: Corpus, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    run_part(corpus, out, small_config, 1, 2)
    with pytest.raises(OutputInUseError, match="unfinished 'prepare' of other files or settings"):
        run_part(corpus, out, replace(small_config, strict_audio=True), 2, 2)


def test_a_run_without_parts_finishes_the_work_of_parts(
    prepared: Path, corpus: Corpus, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    run_part(corpus, out, small_config, 1, 2)
    done = {path: path.stat().st_mtime_ns for path in out.glob("*/*.tar")}
    assert done
    prepare(corpus, out, small_config, PrepareLimits(engine=ENGINE))
    assert tree(out) == tree(prepared)
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_a_part_of_a_finished_dataset_has_nothing_to_do(
    dataset_copy: Path, corpus: Corpus, small_config: PrepareConfig
) -> None:
    before = tree(dataset_copy)
    assert run_part(corpus, dataset_copy, small_config, 1, 2) is None
    assert tree(dataset_copy) == before
    shutil.rmtree(dataset_copy)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/", "/2", "a/b", "1/2/3", "-1/2", "1/0", ""])
def test_an_invalid_part_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_part(text)
    assert str(caught.value) == (f"--part {text}: expected I/N with I from 1 to N, such as 1/4")
    assert parse_part("2/3") == Part(number=2, count=3)


def test_a_part_that_waited_for_the_lock_of_a_whole_run_leaves_its_dataset_alone(
    prepared: Path,
    corpus: Corpus,
    small_config: PrepareConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "data"
    is_finished = prepare_module.is_finished
    calls: list[bool] = []

    def finish_after_the_first_look(output: Output, plan: str) -> bool:
        finished = is_finished(output, plan)
        if not calls:
            calls.append(finished)
            prepare(corpus, out, small_config, PrepareLimits(engine=ENGINE))
        return finished

    monkeypatch.setattr(prepare_module, "is_finished", finish_after_the_first_look)
    assert run_part(corpus, out, small_config, 1, 2) is None
    assert calls == [False]
    assert tree(out) == tree(prepared)


def test_two_plans_that_claim_a_folder_at_the_same_moment_do_not_mix(
    corpus: Corpus, small_config: PrepareConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, tasks = LocalOutput(tmp_path), make_plan(corpus, small_config)
    parts = [Part(number=number, count=2) for number in (1, 2)]
    records = [
        make_record(corpus, small_config, tasks, plan, part)
        for plan, part in zip(("one", "other"), parts, strict=True)
    ]
    check, calls = work_folder.check_records, []

    def claim_after_the_first_look(*arguments: object) -> None:
        check(*arguments)  # type: ignore[arg-type]
        calls.append(arguments)
        if len(calls) == 1:
            claim(output, corpus, records[1], parts[1])

    monkeypatch.setattr(work_folder, "check_records", claim_after_the_first_look)
    with pytest.raises(OutputInUseError, match="unfinished 'prepare' of other files or settings"):
        claim(output, corpus, records[0], parts[0])
    assert find_records(output) == [records[1]]


def test_parts_by_other_versions_are_refused(
    corpus: Corpus, small_config: PrepareConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "data"
    run_part(corpus, out, small_config, 1, 2)
    here = work_folder.software_versions()
    monkeypatch.setattr(work_folder, "software_versions", lambda: {**here, "soxr": "9.9"})
    with pytest.raises(OutputInUseError) as caught:
        run_part(corpus, out, small_config, 2, 2)
    assert str(caught.value) == (
        f"{out} holds an unfinished 'prepare' by other versions (soxr {here['soxr']}, here 9.9), "
        "whose numbers may differ: use those, choose another --out, or delete it first"
    )


def carry_again_and_again(corpus: Corpus, out: Path, config: PrepareConfig, number: int) -> None:
    part = Part(number=number, count=2)
    job = make_record(corpus, config, make_plan(corpus, config), "plan", part)
    for _ in range(40):
        claim(LocalOutput(out), corpus, job, part)


def test_parts_that_start_together_do_not_collide_on_the_corpus_own_files(
    corpus: Corpus, small_config: PrepareConfig, tmp_path: Path
) -> None:
    trials = tmp_path / "trials.txt"
    trials.write_bytes(b"1 a b\r\n" * 50_000 + b"\xff")
    corpus = replace(corpus, attachments={"trials/trials.txt": attach(trials)})
    out = tmp_path / "data"
    context = get_context("spawn")
    processes = [
        context.Process(target=carry_again_and_again, args=(corpus, out, small_config, number))
        for number in (1, 2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    for number in (1, 2):
        run_part(corpus, tmp_path / "real", small_config, number, 2)
    finalize(tmp_path / "real", max_skipped=0.001)
    assert (tmp_path / "real/trials/trials.txt").read_bytes() == trials.read_bytes()


def test_a_record_of_another_version_is_refused(
    corpus: Corpus, small_config: PrepareConfig, tmp_path: Path
) -> None:
    record = tmp_path / ".prepare/records/1-of-2.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"plan": "of another kind"}')
    with pytest.raises(
        OutputInUseError, match="records/1-of-2.json is damaged .*is not a record of a 'prepare' by"
    ):
        run_part(corpus, tmp_path, small_config, 2, 2)
