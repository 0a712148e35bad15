"""Words of a command line as overrides of Hydra: a value may hold anything that a shell word can.

Hydra has a grammar of its own for values, in which brackets, commas, `=`, quotes and letters beyond
ASCII are syntax or errors. A key that holds text takes its value as it stands here; other values
are quoted, in whole or within lists and dictionaries, where the grammar refuses them.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from ltvnet.forecasting.override_words import quote_text

PATH_KEYS = frozenset(
    "bundle data.cache data.cost data.expected data.path data.users experiment ledger out resume "
    "spark.out".split()
)
"""Keys of files and folders: their values are taken as they stand, but for ~ at the beginning."""

TEXT_KEYS = PATH_KEYS | frozenset(
    "as_of by data.amount data.burn_in data.customer data.date data.format.age "
    "data.format.encoding data.format.preset data.format.separator data.format.sheet data.invoice "
    "data.sheet data.snapshot data.timezone data.until data.users_customer data.users_date "
    "data.where save spark.master sweep.storage sweep.study table title".split()
)
"""Keys whose values are taken as they stand: null, and what is in quotes as a whole, apart."""

OPTIONS_WITH_VALUE = frozenset(
    "--cfg -c --package -p --config-path -cp --config-name -cn --config-dir -cd "
    "--experimental-rerun".split()
)
"""Options of Hydra whose value is the next word."""

INTERPOLATION = re.compile(r"\$\{[A-Za-z_.][\w.:]*(?:,[^{}]*|:[^{}]*)?\}")
"""A reference to another value, such as ${out} or ${oc.env:HOME}."""

PARSER = OverridesParser.create()


@dataclass(frozen=True)
class CommandLine:
    """Words of a command line.

    `given` as typed, those of an experiment first; `overrides` as Hydra reads them; `values` by key
    that Hydra has no words for, to be set when the config is composed; `notes` on what was added.
    """

    given: Sequence[str]
    overrides: Sequence[str]
    values: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def words_without(self, *keys: str) -> list[str]:
        """Return the words but those of some keys, to be used again."""
        return [
            word for word in self.given if not word.startswith("-") and first_key(word) not in keys
        ]


def read_words(words: Sequence[str], default_data: Mapping[str, Any]) -> CommandLine:
    """Read the words of a command line.

    `default_data` is the config of data that the script has without any word. Raises ValueError for
    an experiment that is none, and for a word without a key.
    """
    given = with_experiment(words)
    notes = []
    if names_path_alone(given, default_data):
        given = ["data=files", *given]
        notes.append("data.path without data: read as data=files")

    overrides = []
    values: dict[str, Any] = {}
    for word, is_value_of_option in zip(given, values_of_options(given), strict=True):
        if word.startswith("-") or is_value_of_option:
            overrides.append(word)
            continue
        try:
            overrides.append(as_override(word))
        except UnspeakableKeyError:
            key, _, value = word.partition("=")
            values[key.lstrip("+")] = parse_container(value)
    return CommandLine(given, overrides, values, notes)


def values_of_options(words: Sequence[str]) -> Iterator[bool]:
    """Yield whether each word is the value of the option of Hydra before it."""
    before = ["", *words][: len(words)]
    return (word in OPTIONS_WITH_VALUE for word in before)


def first_key(word: str) -> str:
    """Return the key of a config that a word begins with.

    >>> first_key("+data.path=a.b"), first_key("model=lstm")
    ('data', 'model')
    """
    return re.split(r"[.=@]", word.lstrip("+~"), maxsplit=1)[0]


def whole_key(word: str) -> str:
    """Return the whole key of a word.

    >>> whole_key("+data.path=a.b")
    'data.path'
    """
    return word.partition("=")[0].lstrip("+~")


def names_path_alone(words: Sequence[str], default_data: Mapping[str, Any]) -> bool:
    """Return whether words say where data are, but not which, and the default has no path."""
    keys = [whole_key(word) for word in words]
    return "data.path" in keys and "data" not in keys and "path" not in default_data


# Values


class UnspeakableKeyError(Exception):
    """A dictionary has a key for which the grammar of Hydra has no words."""


def as_override(word: str) -> str:
    """Return a word as Hydra reads it.

    >>> as_override("out=runs/[a] b"), as_override("seed=3"), as_override("data.by=[국가]")
    ("out='runs/[a] b'", 'seed=3', "data.by=['국가']")

    Raises ValueError for a word without a key, UnspeakableKeyError for a dictionary with keys that
    cannot be said.
    """
    key, equals, value = word.partition("=")
    if key.startswith("~"):
        return word
    if not equals or not whole_key(word) or not is_plain(f"{key}=1"):
        raise ValueError(f"expected words such as out=FOLDER, KEY=VALUE, got {word!r}")

    if whole_key(word) in TEXT_KEYS:
        return f"{key}={as_text(value, is_path=whole_key(word) in PATH_KEYS)}"
    if is_plain(word):
        return word
    items = read_container(value)
    return f"{key}={quote_text(value) if items is None else container_text(items)}"


def is_plain(word: str) -> bool:
    """Return whether Hydra takes a word, for one value and not for several to be tried."""
    override = parse_word(word)
    return override is not None and not override.is_sweep_override()


def parse_word(word: str) -> Override | None:
    """Parse a word; None where the grammar refuses it."""
    try:
        return PARSER.parse_override(word)
    except HydraException:
        return None


def as_text(value: str, *, is_path: bool) -> str:
    """Return the value of a key of text as Hydra reads it."""
    if value == "null" or is_quoted(value):
        return value
    if is_path:
        value = os.path.expanduser(value)
    return quote_text(escape_interpolations(value))


def is_quoted(value: str) -> bool:
    """Return whether a value is in quotes as a whole."""
    if value[:1] not in ("'", '"'):
        return False
    override = parse_word(f"key={value}")
    return override is not None and isinstance(override._value, QuotedString)


def escape_interpolations(text: str, *, references: bool = False) -> str:
    r"""Return a text in which `${` refers to another value only where it is a whole reference.

    With `references` it refers to none.

    >>> print(escape_interpolations("${out}/${"))
    ${out}/\${
    """
    parts = []
    end = 0
    for match in re.finditer(r"(\\*)\$\{", text):
        backslashes = match[1]
        is_reference = not references and INTERPOLATION.match(text, match.end(1)) is not None
        parts += [text[end : match.start()], 2 * backslashes, "" if is_reference else "\\", "${"]
        end = match.end()
    return "".join([*parts, text[end:]])


def resolve_config(config: DictConfig) -> DictConfig:
    """Return a config without references, in which a `${` that is left is text."""

    def escape(value: Any) -> Any:  # noqa: ANN401 any value of a config
        if isinstance(value, dict):
            return {key: escape(item) for key, item in value.items()}
        if isinstance(value, list):
            return [escape(item) for item in value]
        return escape_interpolations(value, references=True) if isinstance(value, str) else value

    return OmegaConf.create(escape(OmegaConf.to_container(config, resolve=True)))


# Lists and dictionaries

Items = str | list["Items"] | dict[str, "Items"]
"""A value as it was typed: the text of one, or those of a list or a dictionary."""


def read_container(value: str) -> Items | None:
    """Read a list or a dictionary; None where a text is neither, or not closed."""
    if value.strip()[:1] not in ("[", "{"):
        return None
    reader = _Reader(value)
    try:
        items = reader.read_item("")
    except IndexError:
        return None
    return None if reader.text[reader.position :].strip() else items


@dataclass
class _Reader:
    """A walk along a text of lists and dictionaries. Running off its end is an IndexError."""

    text: str
    position: int = 0

    def read_item(self, stops: str) -> Items:
        """Read one value, up to one of the characters that stop it."""
        self._skip_blanks()
        if self.text[self.position] == "[":
            return self._read_list()
        if self.text[self.position] == "{":
            return self._read_dictionary()
        return self._read_scalar(stops)

    def _read_list(self) -> list[Items]:
        items: list[Items] = []
        while self._next_character(after=not items) != "]":
            items.append(self.read_item(",]"))
            self._skip_blanks()
        self.position += 1
        return items

    def _read_dictionary(self) -> dict[str, Items]:
        items: dict[str, Items] = {}
        while self._next_character(after=not items) != "}":
            key = self._read_scalar(":}")
            self.position += self.text[self.position] == ":"
            items[key] = self.read_item(",}")
            self._skip_blanks()
        self.position += 1
        return items

    def _next_character(self, *, after: bool) -> str:
        """Go over the bracket or the comma before a value; return what stands there."""
        self.position += after or self.text[self.position] == ","
        self._skip_blanks()
        return self.text[self.position]

    def _read_scalar(self, stops: str) -> str:
        """Read a text, in quotes or not, up to one of the characters that stop it."""
        self._skip_blanks()
        begin = self.position
        mark = self.text[begin]
        if mark in "'\"":
            self.position += 1
            while self.text[self.position] != mark:
                self.position += 1 + (self.text[self.position] == "\\")
            self.position += 1
            self._skip_blanks()
        while self.text[self.position] not in stops:
            self.position += 1
        return self.text[begin : self.position].strip()

    def _skip_blanks(self) -> None:
        while self.text[self.position] in " \t":
            self.position += 1


def container_text(items: Items) -> str:
    """Return a value as Hydra reads it. Raises UnspeakableKeyError for keys beyond its words."""
    if isinstance(items, list):
        return f"[{','.join(map(container_text, items))}]"
    if isinstance(items, dict):
        if not all(is_plain(f"key={{{key}: 1}}") for key in items):
            raise UnspeakableKeyError
        return f"{{{','.join(f'{key}: {container_text(item)}' for key, item in items.items())}}}"
    return items if is_plain(f"key={items}") else quote_text(items)


def parse_container(value: str) -> Any:  # noqa: ANN401 any value of a config
    """Return a list or a dictionary as values, with keys of any text."""

    def as_value(items: Items) -> Any:  # noqa: ANN401
        if isinstance(items, list):
            return [as_value(item) for item in items]
        if isinstance(items, dict):
            return {unquote(key): as_value(item) for key, item in items.items()}
        override = PARSER.parse_override(f"key={container_text(items)}")
        return override.value()

    items = read_container(value)
    assert items is not None
    return as_value(items)


def unquote(text: str) -> str:
    """Return the text in quotes, or a text without any as it is."""
    if not is_quoted(text):
        return text
    return str(PARSER.parse_override(f"key={text}").value())


# Experiments


def with_experiment(words: Sequence[str]) -> list[str]:
    """Put the words of the experiment that a command line names, a file, before its own.

    Raises ValueError for a file that is no experiment.
    """
    named = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
    if not named or named[-1] in ("", "null"):
        return list(words)

    path = Path(unquote(named[-1])).expanduser()
    content = yaml_content(path) if path.is_file() else None
    overrides = content.get("overrides") if isinstance(content, dict) else None
    if not isinstance(overrides, list) or not all(isinstance(word, str) for word in overrides):
        raise ValueError(
            "expected experiment=FILE with a list of words below the key `overrides:`, such as the "
            f"best.yaml of a sweep, got {path}{why_no_experiment(path, content)}"
        )
    return [*map(current_word, overrides), *words]


def yaml_content(path: Path) -> object:
    """Return the content of a YAML file; a text where it is none."""
    try:
        return OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OSError):
        return "no YAML"


def why_no_experiment(path: Path, content: object) -> str:
    """Say what stands in the place of an experiment."""
    if not path.is_file():
        return ", which does not exist"
    if isinstance(content, str):
        return ", which is no YAML"
    if isinstance(content, list):
        return ", which is a list without the key"
    if isinstance(content, dict) and "overrides" in content:
        return f", in which overrides: {content['overrides']} is no list of words"
    keys = ", ".join(map(str, content)) if isinstance(content, dict) else ""
    return f", which has the keys {keys}" if keys else ", which has none"


def current_word(word: str) -> str:
    """Return a word of an experiment with the key of a model's run where it stands now.

    >>> current_word("model.machine.threads=2"), current_word("model.seed=3")
    ('trainer.threads=2', 'seed=3')
    """
    return word.replace("model.machine.", "trainer.", 1).replace("model.seed=", "seed=", 1)
