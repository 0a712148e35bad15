"""The page that --help prints: what a script does, its options, and the comments of the YAML."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import get_terminal_size
from textwrap import shorten, wrap

import yaml

WIDTH = 100
"""Columns of a page, as most terminals have."""

MIN_WIDTH = 80

MOST_OPTIONS = 40
"""Options of a script that are shown with those of its sections."""

ROOM = 30
"""Lines of a script's own options beyond which those of its data are shown when asked for."""

VALUE_COLUMNS = 26
"""Columns of KEY=VALUE before its comment; a longer one has the comment below."""

EXAMPLES: Mapping[str, Sequence[str]] = {
    "train": (
        "model=best data.path=Files",
        "model=lstm data.path=Files as_of=2025-02-10 out=runs/lstm",
        "resume=runs/lstm",
    ),
    "predict": (
        "bundle=runs/train/.../bundle data.path=Files out=.",
        "bundle=runs/train/.../bundle data.path=Files explain=true by=Campaign",
        "bundle=runs/train/.../bundle data.path=cohorts.parquet wide=null part=500000",
    ),
    "backtest": (
        "data.path=Files 'models=[chain_ladder,pattern,best]' origins.every=13w",
        "'models=[lstm]' window=sliding:104w refit=every_3 workers=2",
        "+settings.lstm.training.epochs=6 out=runs/shorter",
    ),
    "sweep": (
        "model=tide data.path=Files sweep.trials=30 sweep.workers=2",
        "model=lstm sweep.trials=200 sweep.timeout=8h",
        "model=boosting sweep.sampler=random 'sweep.objectives=[score,seconds]'",
    ),
    "prepare": (
        "data.path=orders.parquet 'data.by=[country]' out=prepared",
        "data.path='orders/*.csv' data.customer=user_id data.date=paid_at data.period=month",
        "data=online_retail out=retail",
    ),
    "check": (
        "data.path=Files",
        "data.path=export.csv data.format.preset=adjust",
        "data.path=Files bundle=runs/train/.../bundle",
    ),
    "simulate": (
        "out=simulated",
        "data=simulated_drift as_of=2023-12-31 snapshots=2 out=exports",
        "table=cohorts.parquet data.campaigns.count=400",
    ),
    "benchmark": ("what=leaderboard", "what=all", "what=train out=runs/speed"),
}

EXIT_CODES = (
    "0 done, 2 an error in words, data or folder, 3 the model was worse than the pattern (no "
    "bundle was written), 4 check.py found what is refused, 130 stopped by Ctrl-C"
)

MORE = (
    "--cfg job prints every value, --hydra-help the options of Hydra, which composes them; "
    "configs/README.md says more."
)

GROUPS = ("data", "model", "trainer", "validation")
"""Groups of configs, in the order in which they are shown."""


def asks_for_help(words: Sequence[str]) -> bool:
    """Return whether a command line asks for the page of its script."""
    return any(word in ("--help", "-h") for word in words)


def help_page(configs: Path, script: str, words: Sequence[str]) -> str:
    """Return the page of a script; `words` may choose other data, whose options are shown then."""
    path = configs / f"{script}.yaml"
    title, *notes = leading_comments(path)
    purpose = title.partition(": python ")[0]
    choices = chosen_configs(path, words)
    width = min(max(get_terminal_size((WIDTH, 40)).columns, MIN_WIDTH), WIDTH)

    lines = [f"{purpose}.", *wrap(" ".join(notes), width), "", "Options, with the value of each:"]
    options = {option.key: option for option in options_of(configs / "run.yaml")}
    options = {option.key: option for option in own_options(path)} | {
        key: option for key, option in options.items() if f"\n{key}: " not in path.read_text()
    }
    for option in options.values():
        lines += option.with_meaning(script, choices).as_lines(width)
    if "data" in choices:
        is_asked_for = any(word.startswith("data=") for word in words)
        has_room = is_asked_for or len(lines) < ROOM
        lines += data_lines(configs / "data", choices["data"], width, has_room=has_room)

    groups = [group for group in GROUPS if group in choices]
    if groups:
        lines += ["", "Groups, of which one choice is made (here that with a star):"]
    for group in groups:
        lines += group_lines(configs / group, choices[group], width)

    lines += ["", "Examples:"]
    lines += [f"  {program(script)} {words}" for words in EXAMPLES.get(script, ())]
    ends = f"Exit codes: {EXIT_CODES}. {MORE}"
    return "\n".join([*lines, "", *wrap(ends, width)]) + "\n"


def overview(configs: Path) -> str:
    """Return the page of launch.py, which is no script itself: what the scripts do."""
    lines = ["launch.py is what the scripts share. They are:", ""]
    for script in EXAMPLES:
        title = leading_comments(configs / f"{script}.yaml")[0].partition(": python ")[0]
        file = "benchmarks/run.py" if script == "benchmark" else f"{script}.py"
        lines.append(f"  python scripts/{file:20} {title}")
    return "\n".join([*lines, "", "Each has a page of its own: --help"]) + "\n"


def program(script: str) -> str:
    """Return how a script is called."""
    if not sys.argv[0].endswith(".py"):
        return f"ltvnet {script}"
    return "python scripts/" + ("benchmarks/run.py" if script == "benchmark" else f"{script}.py")


def own_options(path: Path) -> list["Option"]:
    """Return the options of a script; where it has very many, those that are in no section."""
    options = list(options_of(path))
    if len(options) <= MOST_OPTIONS:
        return options
    return [option for option in options if "." not in option.key and option.value]


def leading_comments(path: Path) -> list[str]:
    """Return the comments with which a YAML file begins."""
    comments = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comments.append(line.removeprefix("#").strip())
    return comments or [path.stem]


def chosen_configs(path: Path, words: Sequence[str]) -> dict[str, str]:
    """Return the choice of each group that a script has: its default, or what the words say."""
    defaults = yaml.safe_load(path.read_text(encoding="utf-8"))["defaults"]
    choices = {
        group: str(name)
        for default in defaults
        if isinstance(default, dict)
        for group, name in default.items()
        if group in GROUPS
    }
    for word in words:
        group, _, name = word.partition("=")
        if group in choices and (path.parent / group / f"{name}.yaml").is_file():
            choices[group] = name
    return choices


@dataclass(frozen=True)
class Option:
    """An option of a script: its key, with dots, its value as text, and what it means."""

    key: str
    value: str
    comment: str

    def with_meaning(self, script: str, choices: Mapping[str, str]) -> "Option":
        """Return the option with references in its value replaced by what they come to."""
        value = self.value.replace("${hydra:job.name}", script)
        value = re.sub(r"\$\{now:[^}]*\}_\$\{now:[^}]*\}", "DATE_TIME", value)
        for group, name in choices.items():
            value = value.replace(f"${{hydra:runtime.choices.{group}}}", name)
        return replace(self, value=value)

    def as_lines(self, width: int) -> list[str]:
        """Return the lines that show it, the comment to the right or below."""
        text = f"{self.key}={self.value}" if self.value else f"{self.key}.KEY:"
        text = shorten(text.replace("=???", "=..."), width - 2, placeholder=" ...")
        comments = wrap(self.comment, width - 2 - VALUE_COLUMNS)
        below = [f"  {'':{VALUE_COLUMNS}}{comment}" for comment in comments]
        if len(text) >= VALUE_COLUMNS or not comments:
            return [f"  {text}", *below]
        return [f"  {text:{VALUE_COLUMNS}}{comments[0]}", *below[1:]]


def options_of(path: Path, above: str = "") -> Iterator[Option]:
    """Yield the options of a YAML file with their comments, but not those of Hydra.

    A line of comment alone goes on with the one right above it; others are titles.
    """
    sections: list[tuple[int, str]] = []
    option: Option | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"( *)([A-Za-z_]\w*):(?: +(.*))?", line)
        if match is None:
            is_comment = line.lstrip().startswith("#")
            if option is not None and is_comment:
                option = replace(option, comment=f"{option.comment} {line.lstrip(' #')}")
            elif option is not None:
                yield option
                option = None
            continue

        if option is not None:
            yield option
            option = None
        indent, key = len(match[1]), match[2]
        value, comment = split_comment(match[3] or "")
        sections = [(depth, name) for depth, name in sections if depth < indent]
        name = ".".join([*(name for _, name in sections), key])
        if not value:
            sections.append((indent, key))
        if name.split(".")[0] not in ("defaults", "hydra") and not key.startswith("_"):
            option = Option(f"{above}{name}", value, comment) if value or comment else None
    if option is not None:
        yield option


def split_comment(text: str) -> tuple[str, str]:
    """Split what stands behind a key into its value and its comment.

    >>> split_comment("'a # b' # c"), split_comment("# c")
    (("'a # b'", 'c'), ('', 'c'))
    """
    match = re.match(r"""((?:"[^"]*"|'[^']*'|[^"'\s]|\s+(?!#))*?)(?:(?:^|\s+)#\s*(.*))?$""", text)
    if match is None:
        return text.strip(), ""
    return match[1].strip(), (match[2] or "").strip()


def data_lines(folder: Path, chosen: str, width: int, *, has_room: bool) -> list[str]:
    """Return the options of the data but those in sections; in place of simulated data, of files.

    Where there is no room for them, what shows them.
    """
    if chosen.startswith("simulated"):
        chosen = "files"
    if not has_room:
        return ["", f"Options of data={chosen}: --help data={chosen} shows them."]
    options = [
        option
        for option in options_of(folder / f"{chosen}.yaml", "data.")
        if option.key.count(".") == 1
    ]
    if not options:
        return []
    lines = [line for option in options for line in option.as_lines(width)]
    return ["", f"Options of data={chosen}:", *lines]


def group_lines(folder: Path, chosen: str, width: int) -> list[str]:
    """Return a group with its choices, the one that is made marked by a star."""
    names = sorted(path.stem for path in folder.glob("*.yaml") if not path.stem.startswith("_"))
    marked = [f"{name}*" if name == chosen else name for name in names]
    first, *others = wrap(" ".join(marked), width - 14)
    return [f"  {folder.name + '=':12}{first}", *(f"{'':14}{other}" for other in others)]
