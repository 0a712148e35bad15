"""Values on the command line may hold anything that a shell word can."""

import dataclasses
import os
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from command_line.words import (
    INTERPOLATION,
    PATH_KEYS,
    TEXT_KEYS,
    as_override,
    is_quoted,
    read_words,
    resolve_config,
)
from factories.configs import compose_config
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from ltvnet.data.cohort_tables import Files
from ltvnet.data.importers.table_format import TableFormat
from ltvnet.data.transactions import Transactions
from ltvnet.prediction.batch import OutputOptions
from ltvnet.prediction.spark import SparkCluster

PARSER = OverridesParser.create()
SIMULATED = {"seed": 0}

WORD_CHARACTERS = st.characters(
    exclude_characters="\0\n\r\x85\u2028\u2029", exclude_categories=["Cs"]
)
TEXTS = st.text(WORD_CHARACTERS) | st.text("\\${}'\"ab:.=,[]() ~#%@/|*?!&;<>한글")
"""Texts that a shell hands on as one word, without the ends of lines that YAML knows."""

NAMES = st.text(WORD_CHARACTERS, min_size=1) | st.text("ab 한글'\"[]{},:=()#", min_size=1)


def composed_value(word: str) -> Any:  # noqa: ANN401 any value of a config
    """The value that a word gives its key."""
    return PARSER.parse_override(as_override(word)).value()


def config_of(key: str, text: str) -> DictConfig:
    """A config in which a word sets a key, as scripts get it."""
    return resolve_config(OmegaConf.create({"value": composed_value(f"{key}={text}")}))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(TEXT_KEYS - PATH_KEYS)), TEXTS)
def test_any_text_arrives_as_it_is(key: str, text: str) -> None:
    """But for null, ??? (no value yet), quoted text and references to other values."""
    assume(text not in ("null", "???") and not is_quoted(text) and not INTERPOLATION.search(text))
    config = config_of(key, text)
    assert config.value == text
    kept = OmegaConf.create(OmegaConf.to_yaml(config))
    assert kept.value == text


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(PATH_KEYS)), TEXTS)
def test_any_path_arrives_as_it_is(key: str, text: str) -> None:
    assume(text not in ("null", "???") and not is_quoted(text) and not INTERPOLATION.search(text))
    assert config_of(key, text).value == os.path.expanduser(text)


@pytest.mark.parametrize(
    "text",
    [
        "[MKT]_LTV_2024_03_31.csv",
        "Files (2)",
        "export(1)",
        "a=b",
        "x,y",
        "it's",
        'say "so"',
        "100%",
        "a#b",
        " a",
        "exports/한글",
        "2024",
        "true",
        "C:\\Users\\me\\",
        "{a: b}",
        "glob(*)",
        "a${b",
        "$HOME",
        "",
    ],
)
@pytest.mark.parametrize("key", ["out", "data.path"])
def test_paths_of_every_kind_are_composed(key: str, text: str) -> None:
    words = read_words([f"{key}={text}"], SIMULATED).overrides
    config = resolve_config(compose_config("train", "title=t", *words))
    assert OmegaConf.select(config, key) == text


def test_quotes_and_null_and_references_mean_what_they_meant() -> None:
    assert composed_value("out='a b'") == "a b" and composed_value('out="it\'s"') == "it's"
    assert composed_value("as_of=null") is None
    config = compose_config("backtest", as_override("ledger=${out}/l"))
    assert config.ledger == "runs/test/l"


def test_home_is_the_users() -> None:
    assert composed_value("data.path=~/Files") == str(Path.home() / "Files")
    assert composed_value("title=~/Files") == "~/Files"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[국가]", ["국가"]),
        ("[국가, OS,'매체, 둘']", ["국가", "OS", "매체, 둘"]),
        ("[]", []),
        ("[a,[한,{b: 글}]]", ["a", ["한", {"b": "글"}]]),
        ("{Date: 날짜}", {"Date": "날짜"}),
        ("{Date:날짜, Users: '설 치',OS: 2}", {"Date": "날짜", "Users": "설 치", "OS": 2}),
        ("{low: 0.1, high: 2, log: true}", {"low": 0.1, "high": 2, "log": True}),
        ("[1,2.5,true,null]", [1, 2.5, True, None]),
        ("{}", {}),
        ("한글", "한글"),
        ("it's", "it's"),
        ("a,b", "a,b"),
        ("f(1)", "f(1)"),
        ("[a", "[a"),
        ("{a: b", "{a: b"),
        ("[a] b", "[a] b"),
        ("'a", "'a"),
        ("3", 3),
        ("1e-3", 0.001),
        ("null", None),
    ],
)  # fmt: skip
def test_lists_dictionaries_and_other_values(text: str, value: object) -> None:
    assert composed_value(f"data.columns={text}") == value


@settings(max_examples=200, deadline=None)
@given(st.lists(NAMES, max_size=4))
def test_lists_of_any_names(names: list[str]) -> None:
    """In quotes, inside of which a quote has a backslash."""
    quoted = [f"'{as_override(f'title={name}').removeprefix('title=')[1:-1]}'" for name in names]
    assume(not any(name == "null" or is_quoted(name) or "$" in name for name in names))
    assert composed_value(f"data.by=[{','.join(quoted)}]") == names


def test_a_dictionary_may_have_keys_of_any_letters() -> None:
    """Hydra has no words for them: they are set when the config is composed."""
    words = read_words(["data.columns={국가: geo, OS: '매체: 둘'}", "seed=3"], SIMULATED)
    assert words.overrides == ["seed=3"]
    assert words.values == {"data.columns": {"국가": "geo", "OS": "매체: 둘"}}


@pytest.mark.parametrize("word", ["nonsense", "한글=3", "=3", "a b=3"])
def test_words_without_a_key_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="expected words such as out=FOLDER, KEY=VALUE, got"):
        read_words([word], SIMULATED)


def test_a_path_alone_means_files_where_the_script_has_other_data() -> None:
    words = read_words(["data.path=Files"], SIMULATED)
    assert words.overrides == ["data=files", "data.path='Files'"]
    assert words.notes == ["data.path without data: read as data=files"]
    for given_words in (["data=transactions", "data.path=a"], ["data.seed=3"], ["+data.path=a"]):
        assert read_words(given_words, {"path": "???"}).notes == []
    assert read_words(["data=transactions", "data.path=a"], SIMULATED).notes == []
    assert read_words(["data.path=a"], {"path": "???"}).overrides == ["data.path='a'"]


def test_options_of_hydra_are_left_alone() -> None:
    words = ["--cfg", "job", "--resolve", "seed=3"]
    assert read_words(words, SIMULATED).overrides == words


def test_no_words_are_none() -> None:
    assert read_words([], SIMULATED).overrides == []


def test_words_are_chosen_by_their_keys() -> None:
    words = read_words(["model=lstm", "+model.a=1", "out=a b", "--resolve"], SIMULATED)
    assert words.words_without("out") == ["model=lstm", "+model.a=1"]


def text_fields(cls: type) -> set[str]:
    """Fields of a dataclass that hold a text or a path, or nothing."""
    hints = get_type_hints(cls)
    unions = (str, str | None, str | Path, str | Path | None)
    return {field.name for field in dataclasses.fields(cls) if hints[field.name] in unions}


@pytest.mark.parametrize(
    ("cls", "section"),
    [
        (Files, "data."),
        (TableFormat, "data.format."),
        (Transactions, "data."),
        (SparkCluster, "spark."),
        (OutputOptions, ""),
    ],
)
def test_all_keys_of_data_that_hold_text_are_known(cls: type, section: str) -> None:
    assert {f"{section}{name}" for name in text_fields(cls)} <= TEXT_KEYS
