"""Commands to run next, which can be pasted as they are."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from command_line.words import TEXT_KEYS

from ltvnet.forecasting.override_words import override_text

SIMULATED = "ltvnet.data.simulation."
"""Where the classes of simulated data stand: nobody has cohorts to forecast that are none."""


def command(script: str, *words: str) -> str:
    """Return the command of another script, as this one was called."""
    program = sys.argv[0]
    if not program.endswith(".py"):
        return shlex.join([program.partition(" ")[0], script, *words])
    return shlex.join(["python", str(Path(program).with_name(f"{script}.py")), *words])


def predict_command(out: Path, data: Mapping[str, Any]) -> str | None:
    """Return the command that forecasts the data of a run with its bundle; None for simulated."""
    if str(data.get("_target_", "")).startswith(SIMULATED):
        return None
    return command("predict", f"bundle={out / 'bundle'}", *data_words(data), "out=.")


def train_command(path: Path) -> str:
    """Return the command that trains on a cohort table, or a folder of them."""
    return command("train", "data=files", f"data.path={path}")


def resume_command(out: Path) -> str:
    """Return the command that goes on with a training that was cut off."""
    return command("train", f"resume={out}")


def data_words(data: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line that choose data again.

    They are those of the config of data that has the most values in common.
    """
    from ltvnet.operations.configuration import list_choices, load_config

    candidates = []
    for name in list_choices("data"):
        try:
            default = load_config("data", name)
        except ValueError:  # it needs a variable of the environment that is not set
            continue
        if default.get("_target_") == data.get("_target_"):
            words = [data_word(key, value) for key, value in changed_values(default, data)]
            candidates.append([f"data={name}", *words])
    target = [f"data._target_={data.get('_target_')}"]
    everything = [data_word(key, value) for key, value in changed_values({}, data)]
    return min(candidates, key=len, default=target + everything)


def changed_values(
    default: Mapping[str, Any], values: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield keys, with dots, and values that differ from the default's."""
    for key, value in values.items():
        if key in default and isinstance(default[key], dict) and isinstance(value, dict):
            yield from changed_values(default[key], value, f"{above}{key}.")
        elif key not in default or default[key] != value:
            yield f"{above}{key}", value


def data_word(key: str, value: object) -> str:
    """Return the word that sets a value of the data, as one would type it."""
    name = f"data.{key}"
    if isinstance(value, str) and name in TEXT_KEYS:
        return f"{name}={value}"
    return f"{name}={override_text(value)}"
