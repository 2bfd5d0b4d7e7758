import math
import time

import pytest
import yaml

from aalbert.common.settings_text import dump_document, parse_document, parse_value
from aalbert.errors import ConfigError

# By the core schema of YAML 1.2.2, section 10.3.2.
SCALARS = [
    *(("010", 10), ("-7", -7), ("+7", 7), ("0o17", 15), ("0x1F", 31), ("12", 12)),
    *(("5e-4", 5e-4), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("-1.5E+2", -150.0)),
    *((".inf", math.inf), ("-.INF", -math.inf)),
    *(("true", True), ("FALSE", False), ("null", None), ("~", None)),
]
TEXTS = [
    *("yes", "on", "tRUE", "nan", "inf", "8:20", "1:30:00", "1_000", "0b11", "2024-01-01"),
    *("2001-99-99", "5e-4,1e-3", "1e3x", "1.2.3", "0x", "0o9", "--1", "1e", "<<", "="),
]
WORDS = ["*", "*-clean", "!a", "&a", "#1", "@a", "%a", "a: b"]


@pytest.mark.parametrize(("text", "value"), [*SCALARS, *((text, text) for text in TEXTS)])
def test_a_scalar_means_the_same_in_flags_lists_and_files(text: str, value: object) -> None:
    found = [parse_value(text, "--set"), parse_document(f"a: {text}", "file")["a"]]
    if "," not in text:
        found += parse_value(f"[{text}]", "--set") + parse_document(f"a: [{text}]", "file")["a"]
    assert all(each == value for each in found)
    assert all(type(each) is type(value) for each in found)


def test_not_a_number_is_one() -> None:
    assert math.isnan(parse_value(".nan", "--set"))


@pytest.mark.parametrize("word", WORDS)
def test_an_assigned_word_may_begin_with_any_character(word: str) -> None:
    assert parse_value(word, "--set") == word


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[*, *-clean, dev-*]", ["*", "*-clean", "dev-*"]),
        ("{train: *-clean}", {"train": "*-clean"}),
        ("'*'", "*"),
        ("[1, 2]", [1, 2]),
        ("", None),
    ],
)
def test_assigned_lists_and_groups_are_yaml(text: str, value: object) -> None:
    assert parse_value(text, "--set") == value


@pytest.mark.parametrize(("text", "value"), [*SCALARS, *((text, text) for text in TEXTS + WORDS)])
def test_what_is_written_is_read_here_and_by_yaml_1_1(text: str, value: object) -> None:
    written = dump_document({"a": value})
    assert parse_document(written, "file") == {"a": value}
    assert yaml.safe_load(written) == {"a": value}


@pytest.mark.parametrize("digits", ["9" * 5000, "-" + "9" * 401, "0x" + "f" * 5000])
def test_a_number_of_thousands_of_digits_is_refused(digits: str) -> None:
    message = f"--set a: a number of {len(digits):,} digits is no setting"
    with pytest.raises(ConfigError, match=message):
        parse_value(digits, "--set a")
    assert parse_value("9" * 300, "--set a") == int("9" * 300)


@pytest.mark.parametrize(
    "value", ["!!int abc", "!!float x", "!!timestamp 2001-99-99", "!!bool perhaps", "!!binary '*'"]
)
def test_a_wrong_tag_is_one_line(value: str) -> None:
    with pytest.raises(ConfigError, match="^settings: ") as error:
        parse_document(f"steps: {value}\n", "settings")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("depth", [51, 2000, 30_000])
@pytest.mark.parametrize("form", ["[{}]", "{{a: {}}}", "- {}", "? {}"])
def test_deep_nesting_is_refused_at_once(form: str, depth: int) -> None:
    before, _, after = form.replace("{{", "{").replace("}}", "}").partition("{}")
    text = (before * depth + after * depth)[:100_000]
    begun = time.process_time()
    with pytest.raises(ConfigError, match="^file: nested more than 50 deep$"):
        parse_document(f"a:\n  {text}", "file")
    if text[0] in "[{":
        with pytest.raises(ConfigError, match="^--set a: nested more than 50 deep$"):
            parse_value(text, "--set a")
    assert time.process_time() - begun < 0.5


def test_a_text_that_is_too_long_for_settings_is_refused() -> None:
    text = "".join(f"a{number}: 1\n" for number in range(20_000))
    with pytest.raises(ConfigError, match="^file: 188,890 characters are no settings"):
        parse_document(text, "file")


def test_settings_nested_less_deep_are_read() -> None:
    assert parse_document("a: " + "[" * 40 + "]" * 40, "file")
