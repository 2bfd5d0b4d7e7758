import pytest

from aalbert.errors import InputError
from aalbert.pipeline.corpora.names import check_splits, taken_fields
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
