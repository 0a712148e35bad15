"""The best trial of a sweep as a file of overrides, for `scripts/train.py experiment=FILE`."""

import json
import shlex
from pathlib import Path

from ltvnet.forecasting.override_words import override_text
from ltvnet.reports.wording import fixed_percent
from ltvnet.tuning.sweep_result import SweepResult


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
    train = shlex.join(["python", "scripts/train.py", f"experiment={path}"])
    lines = [
        f"# Trial {best.number} of {len(result.trials)}: score {fixed_percent(best.score, 2)} on "
        f"{len(task.origins)} past days before {task.cutoff}.",
        f"# as it was scored:   {train}",
        f"# on the newest data: {train} as_of=null",
        "overrides:",
        *(f"- {json.dumps(override)}" for override in overrides),
    ]
    return "\n".join(lines) + "\n"
