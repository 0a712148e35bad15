"""The best trial of a sweep as a file of overrides, for `scripts/train.py experiment=FILE`."""

import json
import re
from pathlib import Path

from ltvnet.reports.wording import fixed_percent
from ltvnet.tuning.search_space import Value
from ltvnet.tuning.sweep_result import SweepResult

_PLAIN_TEXT = re.compile(
    r"(?!(?:null|true|false|nan|inf)$)[a-z_][a-z0-9_./-]*", re.IGNORECASE | re.ASCII
)
"""Texts that mean themselves on a command line, and not a number, a truth or nothing."""


def experiment_text(result: SweepResult, path: Path) -> str:
    """Return the text of an experiment file that trains the best trial; `path` where it will be."""
    best = result.best_trial
    task = result.task
    overrides = [
        *result.overrides,
        f"title={override_text(result.title)}",
        f"as_of={task.cutoff}",
        *(f"{key}={override_text(value)}" for key, value in best.values.items()),
    ]
    lines = [
        f"# Trial {best.number} of {len(result.trials)}: score {fixed_percent(best.score, 2)} on "
        f"{len(task.origins)} past days before {task.cutoff}.",
        f"# as it was scored:   python scripts/train.py experiment={path}",
        f"# on the newest data: python scripts/train.py experiment={path} as_of=null",
        "overrides:",
        *(f"- {json.dumps(override)}" for override in overrides),
    ]
    return "\n".join(lines) + "\n"


def override_text(value: Value) -> str:
    """Return a value as an override of the command line has it: null, true, [8], 'a b'."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(override_text, value))}]"
    if isinstance(value, str) and not _PLAIN_TEXT.fullmatch(value):
        return _quote(value)
    return str(value)


def _quote(text: str) -> str:
    """Return a text in quotes, as Hydra reads it."""

    def escape_quote(match: re.Match[str]) -> str:
        # Hydra takes a backslash for one unless a quote follows, be it the last one
        backslashes, quote = match[1], match[2]
        return 2 * backslashes + ("\\'" if quote else "")

    inside = re.sub(r"(\\*)('|\Z)", escape_quote, text)
    return f"'{inside}'"
