import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aalbert.errors import InputError
from aalbert.pipeline.corpora.names import KEY_PATTERN, check_splits, key_of, taken_fields
from aalbert.shards import Dataset

SPLITS = ["", "a/b", "..", ".", "train set", "-train", "é", "train.1", "a\nb", "a|b", "x" * 81]


def test_every_column_of_an_index_without_fields_is_taken(prepared: "object") -> None:
    columns = Dataset(str(prepared)).table.column_names
    assert set(columns) - set(taken_fields(columns)) == {"gender", "chapter", "text"}
    assert taken_fields(["mfcc_offset", "text", "linear_std"]) == ["mfcc_offset", "linear_std"]


@pytest.mark.parametrize("split", ["train", "train-clean-100", "1", "_", "Train_2", "x" * 80])
def test_a_name_of_plain_letters_is_a_split(split: str) -> None:
    check_splits({split: "a.wav"})


@pytest.mark.parametrize("split", [*SPLITS, "index", "Index", "statistics", "trials"])
def test_a_name_that_is_no_safe_folder_is_refused_with_where_it_is(split: str) -> None:
    with pytest.raises(InputError) as caught:
        check_splits({"train": "list.csv:2", split: "list.csv:7"})
    assert str(caught.value) == (
        f"list.csv:7 would be in the split '{split}': a split is the name of a folder of up to 80 "
        "letters (a-z, A-Z), digits, '_' and '-', does not begin with '-' and is none of index, "
        "statistics, trials; rename it"
    )


def test_splits_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        check_splits({"train": "list.csv:2", "Train": "list.csv:3"})
    assert str(caught.value) == (
        "list.csv:3 would be in the split 'Train', list.csv:2 in 'train': not every disk can tell "
        "these folders apart; give both one name"
    )


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1)
# Few letters, so that different paths meet in one key where they can.
ALIKE = st.text(st.sampled_from("a-_. é"), min_size=1, max_size=3)
SOURCES = st.builds(
    lambda folders, name, suffix: "/".join([*folders, name]) + suffix,
    st.lists(ALIKE | NAMES, max_size=3),
    ALIKE | NAMES,
    st.sampled_from([".wav", ".flac", ".WAV", ""]),
)
TIMES = st.floats(0, 1e6, allow_nan=False) | st.integers(0, 10).map(lambda tenths: tenths / 10)


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("1.wav", "1"),
        ("anna/monday/1.wav", "anna-monday-1"),
        ("anna/monday/1.flac", "anna-monday-1--flac"),
        ("anna/monday/1.WAV", "anna-monday-1--WAV"),
        ("anna_b/x_y.wav", "anna_b-x_y"),
    ],
)
def test_a_plain_path_is_its_own_key(source: str, key: str) -> None:
    assert key_of(source) == key


@pytest.mark.parametrize(
    ("source", "readable"),
    [
        ("a/b-c.wav", "a-b-c"),
        ("a-b/c.wav", "a-b-c"),
        ("Zoë Müller/x.1.wav", "Zo__M_ller-x_1"),
        ("/mnt/x.wav", "mnt-x"),
        ("a/x", "a-x"),
        ("=cmd().wav", "_cmd__"),
        (f"{'long/' * 40}x.wav", ("long-" * 40)[:63]),
    ],
)
def test_any_other_path_stays_readable_and_gets_a_hash(source: str, readable: str) -> None:
    key = key_of(source)
    assert key[:-17] == readable
    assert set(key[-16:]) <= set("0123456789abcdef")
    assert key[-17] == "-"


def test_a_key_is_the_same_in_every_version() -> None:
    # Recorded when the first was made: datasets hold such keys.
    assert key_of("a/b-c.wav") == "a-b-c-f589b781c8fed2f6"
    assert key_of("a b.wav", 1.0, 2.0) == "a_b--1000-2000-79b8826d419fae14"


@pytest.mark.parametrize(
    "sources",
    [
        ("a/b-c.wav", "a-b/c.wav", "a/b/c.wav", "a-b-c.wav"),
        ("x.wav", "x.flac", "x.WAV", "x", "x--flac.wav", "x/flac.wav", "x_flac.wav"),
        ("caf\u00e9.wav", "cafe\u0301.wav", "caf_.wav"),
        (f"{'a' * 90}1.wav", f"{'a' * 90}2.wav"),
        ("a b.wav", "a_b.wav", "a.b.wav"),
    ],
    ids=["hyphens", "suffixes", "normal forms", "long", "replaced"],
)
def test_paths_that_look_alike_have_keys_of_their_own(sources: tuple[str, ...]) -> None:
    assert len({key_of(source) for source in sources}) == len(sources)


def test_no_file_can_be_named_like_the_key_of_another() -> None:
    key = key_of("a/b-c.wav")
    assert key_of(f"{key.replace('-', '/')}.wav") != key
    assert key_of(f"{key[-16:]}.wav") != key[-16:]


def test_a_part_shows_its_milliseconds() -> None:
    assert key_of("a/b.wav", 12.5, 17.25) == "a-b--12500-17250"
    assert key_of("a/b.wav", 12.5) == "a-b--12500-end"
    assert key_of("a/b.flac", 0.0, 1.001) == "a-b--flac--0-1001"
    assert key_of("a/b.wav", 0.0, None) == "a-b"
    assert key_of("a b.wav", 1.0, 2.0).startswith("a_b--1000-2000-")


def test_parts_within_one_millisecond_differ() -> None:
    assert key_of("a.wav", 1.00001, 2.0) != key_of("a.wav", 1.00002, 2.0)
    assert key_of("a.wav", 1.00001, 2.0) != key_of("a.wav", 1.0, 2.0)


@given(st.lists(st.tuples(SOURCES, TIMES, TIMES | st.none()), min_size=2, max_size=30, unique=True))
@example([("a/1000/2000.wav", 0.0, None), ("a.wav", 1.0, 2.0), ("a--1000-2000.wav", 0.0, None)])
@example([("a/end.wav", 0.0, None), ("a.end", 0.0, None), ("a.wav", 0.001, None)])
def test_keys_are_valid_unique_and_always_the_same(
    parts: list[tuple[str, float, float | None]],
) -> None:
    keys = [key_of(*part) for part in parts]
    assert all(KEY_PATTERN.fullmatch(key) for key in keys)
    assert len(set(keys)) == len(parts)
    assert [key_of(*part) for part in parts] == keys
    assert not any(key.startswith("-") for key in keys)
