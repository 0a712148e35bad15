"""What a sweep found: the best trial, a table of all, and a page to read.

Shapes: T trials.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ltvnet.reports import html
from ltvnet.reports.figures import MODEL_COLORS, PATTERN_COLOR, titled_figure
from ltvnet.reports.html import html_table, paragraph, svg_figure
from ltvnet.reports.wording import percent
from ltvnet.storage import atomic_write
from ltvnet.tuning.search_space import Value, config_value
from ltvnet.tuning.trials import COMPLETE, FAILED, PRUNED, FinishedTrial, HeldOutGain, SweepTask

BEST_TRIALS_SHOWN = 10
"""Trials of the table of the best."""

KEYS_DRAWN = 12
"""Keys that are drawn, the most important first."""


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep: its `task` and `trials` (T,), `importances` by key, `gain` of the best.

    `title` names the model; `pareto` whether seconds counted too; `words` of the command line
    that made the config, repeated to train the best. Raises ValueError when no trial finished.
    """

    title: str
    task: SweepTask
    trials: Sequence[FinishedTrial]
    importances: Mapping[str, float]
    pareto: bool
    overrides: Sequence[str]
    gain: HeldOutGain | None = None

    def __post_init__(self) -> None:
        """Check that something was found."""
        if not self.finished_trials:
            errors = [trial.error for trial in self.trials if trial.error]
            said = f": {errors[0]}" if errors else ""
            raise ValueError(f"expected a finished trial, got none of {len(self.trials)}{said}")

    @property
    def finished_trials(self) -> list[FinishedTrial]:
        """Trials of all days, the best first."""
        found = [trial for trial in self.trials if trial.state == COMPLETE]
        return sorted(found, key=lambda trial: trial.score)

    @property
    def default_trial(self) -> FinishedTrial | None:
        """The trial of the config as it was; None when it failed."""
        return next((trial for trial in self.finished_trials if trial.default), None)

    @property
    def best_trial(self) -> FinishedTrial:
        """The lowest score without a bias that is not allowed; the default may have one."""
        fair = [trial for trial in self.finished_trials if trial.allowed or trial.default]
        return (fair or self.finished_trials)[0]

    @property
    def pareto_front(self) -> list[FinishedTrial]:
        """Trials that no other beats in score or seconds without losing in the other."""
        kept: list[FinishedTrial] = []
        for trial in sorted(self.finished_trials, key=lambda trial: (trial.score, trial.seconds)):
            if not kept or trial.seconds < kept[-1].seconds:
                kept.append(trial)
        return kept

    def finding(self) -> str:
        """What came out, in a sentence or two."""
        best, default = self.best_trial, self.default_trial
        if default is None:
            biased = "" if best.allowed else ", with more bias than is allowed"
            return f"Trial {best.number} is the best, at {_score(best)}{biased}; the default failed"
        if best.default:
            lower = (
                " without more bias than is allowed" if self.finished_trials[0] is not best else ""
            )
            return f"No trial{lower} was better than the default, at {_score(default)}"
        saved = 1 - best.score / default.score
        said = (
            f"Trial {best.number} scores {_score(best)} where the default scores "
            f"{_score(default)}: {percent(saved, exact=True)} less error on the days of the sweep"
        )
        return said if self.gain is None else f"{said}; {_told(self.gain)}"

    def write(self, folder: Path) -> None:
        """Write `best.yaml`, `trials.csv`, `metrics.json` and `report.html`."""
        with atomic_write(folder / "best.yaml") as path:
            path.write_text(self.as_experiment(folder / "best.yaml"), encoding="utf-8")
        with atomic_write(folder / "trials.csv") as path:
            self.trial_table().to_csv(path, index=False)
        found = {
            "best": self.best_trial.score,
            "trial": self.best_trial.number,
            "trials": len(self.trials),
        }
        if self.default_trial is not None:
            found["default"] = self.default_trial.score
        gain = None if self.gain is None else {
            **vars(self.gain), "days": list(map(str, self.gain.days))
        }  # fmt: skip
        with atomic_write(folder / "metrics.json") as path:
            path.write_text(json.dumps({**found, "held_out": gain}, indent=1))
        html.write_html_page(
            folder / "report.html", f"Sweep of {self.title}", self._top(), self._page()
        )

    def as_experiment(self, path: Path) -> str:
        """The best trial as a file for `scripts/train.py experiment=`."""
        chosen = [f"{key}={override_text(value)}" for key, value in self.best_trial.values.items()]
        words = [
            *self.overrides,
            f"title={override_text(self.title)}",
            f"as_of={self.task.cutoff}",
            *chosen,
        ]
        lines = [
            f"# Trial {self.best_trial.number} of {len(self.trials)}: score {_score(self.best_trial)} on "
            f"{len(self.task.origins)} past days before {self.task.cutoff}.",
            f"# as it was scored:   python scripts/train.py experiment={path}",
            f"# on the newest data: python scripts/train.py experiment={path} as_of=null",
            "overrides:",
            *(f"- {json.dumps(word)}" for word in words),
        ]
        return "\n".join(lines) + "\n"

    def trial_table(self) -> pd.DataFrame:
        """All trials, a row each."""
        rows = []
        for trial in self.trials:
            row = {**vars(trial), **trial.bias, **trial.values}
            rows.append({k: v for k, v in row.items() if k not in ("values", "bias", "default")})
        return pd.DataFrame(rows)

    def _top(self) -> str:
        counts = {state: sum(trial.state == state for trial in self.trials) for state in
                  (COMPLETE, PRUNED, FAILED)}  # fmt: skip
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        return paragraph(self.finding(), "lead") + paragraph(
            f"{len(self.trials)} trials: {told}. The score is the mean WAPE at D90, D180, D360 of "
            f"cohorts cut to 7 and 30 days, on {len(self.task.origins)} past days."
        )

    def _page(self) -> dict[str, str | None]:
        drawn = {name: svg_figure(name, figure) for name, figure in self.figures().items()}
        failed = [trial for trial in self.trials if trial.error]
        return {
            "Is the gain real?": self._tested(),
            "What did the best change?": self._changes(),
            "Which trials were the best?": self._best(),
            "Which are quick and good?": self._front() if self.pareto else "",
            "How did the sweep go?": drawn["course of the sweep"],
            "Which keys mattered?": drawn.get("importance of keys", ""),
            "Which values were good?": drawn.get("score by value", ""),
            "What failed?": "".join(
                paragraph(f"Trial {trial.number}: {trial.error}") for trial in failed
            ),
        }

    def _tested(self) -> str:
        if self.gain is None:
            words = "Nothing has matured on later days that could test it."
            return paragraph(words) if not self.best_trial.default else ""
        days = ", ".join(map(str, self.gain.days))
        return paragraph(
            f"Tested on {days}: {_told(self.gain)}. A sweep fits the days that it is scored on, so "
            "what it saves there is more than what it will save."
        )

    def _changes(self) -> str:
        space = {one.key: str(one) for one in self.task.space.dimensions}
        rows = [
            [key, override_text(config_value(self.task.config, key)), _short(value), space[key]]
            for key, value in self.best_trial.values.items()
        ]
        return html_table(
            f"Trial {self.best_trial.number}", ["key", "default", "best", "tried"], rows
        )

    def _rows(self, trials: Sequence[FinishedTrial]) -> tuple[list[str], list[list[str]]]:
        keys = [one.key for one in self.task.space.dimensions]
        head = ["trial", "score", "bias D180", "bias D360", "seconds a fit", *map(_last, keys)]
        rows = []
        for trial in trials:
            bias = [percent(trial.bias.get(f"bias_d{h}", np.nan), exact=True) for h in (180, 360)]
            name = f"{trial.number}" + " (default)" * trial.default
            values = [_short(trial.values[key]) if key in trial.values else "" for key in keys]
            rows.append([name, _score(trial), *bias, _seconds(trial), *values])
        return head, rows

    def _best(self) -> str:
        shown = self.finished_trials[:BEST_TRIALS_SHOWN]
        if self.default_trial is not None and self.default_trial not in shown:
            shown = [*shown, self.default_trial]
        biased = " Those with too much bias are left out of the choice." if any(
            not trial.allowed for trial in shown
        ) else ""  # fmt: skip
        return html_table(f"The lowest scores.{biased}", *self._rows(shown))

    def _front(self) -> str:
        return html_table("None of the others is better in both", *self._rows(self.pareto_front))

    def figures(self) -> dict[str, Figure]:
        """The figures of the page by name, those that there are data for."""
        found = {"course of the sweep": score_by_trial(self.trials, self.best_trial)}
        if self.importances:
            found["importance of keys"] = importance_by_key(self.importances)
        keys = [*self.importances, *(k.key for k in self.task.space.dimensions)]
        if len(self.finished_trials) > 1:
            found["score by value"] = score_by_value(
                self.finished_trials, list(dict.fromkeys(keys))[:KEYS_DRAWN]
            )
        return found


@rc_context(html.FIGURE_STYLE)
def score_by_trial(trials: Sequence[FinishedTrial], best: FinishedTrial) -> Figure:
    """Scores of trials in the order they began, and the best so far."""
    pruned = [trial.number for trial in trials if trial.state == PRUNED]
    stopped = f"; {len(pruned)} were stopped early" if pruned else ""
    figure = titled_figure(f"Trial {best.number} of {len(trials)} was the best{stopped}", 3.4)
    axes = figure.add_subplot()
    done = [t for t in trials if t.state == COMPLETE and (t.allowed or t.default)] or [best]
    numbers, found = [trial.number for trial in done], np.array([trial.score for trial in done])
    axes.step(
        numbers, np.minimum.accumulate(found), where="post", c=MODEL_COLORS[0], label="best so far"
    )
    axes.scatter(numbers, found, color=MODEL_COLORS[0], label="score", zorder=3)
    least, worst = found.min(), np.quantile(found, 0.9)  # failures would hide the rest
    axes.set_ylim(top=worst + 0.4 * (worst - least) + 1e-4)
    edge = np.full(len(pruned), axes.get_ylim()[1])  # their scores are of other days
    label = "stopped early" if pruned else None
    axes.scatter(pruned, edge, marker="x", color=PATTERN_COLOR, label=label, clip_on=False)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel="score (mean WAPE)")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@rc_context(html.FIGURE_STYLE)
def importance_by_key(found: Mapping[str, float]) -> Figure:
    """How much each key mattered."""
    first = next(iter(found))
    figure = titled_figure(
        f"{first} mattered the most for which trials were good", 0.9 + 0.27 * len(found)
    )
    axes = figure.add_subplot()
    names = list(found)[::-1]
    axes.barh(names, [found[name] for name in names], color=MODEL_COLORS[0])
    axes.grid(visible=False)
    axes.set_xlabel("share of the importance (PED-ANOVA of the trials of all days)")
    return figure


@rc_context(html.FIGURE_STYLE)
def score_by_value(trials: Sequence[FinishedTrial], keys: Sequence[str]) -> Figure:
    """Scores by value of each key, of trials of all days."""
    rows = -(-len(keys) // 4)
    figure = titled_figure(
        "Scores of trials by the value of each key; the default is orange", 2.3 * rows
    )
    for place, key in enumerate(keys):
        axes = figure.add_subplot(rows, 4, place + 1)
        some = [trial for trial in trials if key in trial.values]
        values = [trial.values[key] for trial in some]
        colors = [MODEL_COLORS[1] if trial.default else MODEL_COLORS[0] for trial in some]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        x: Any = values if numbers else list(map(override_text, values))
        axes.scatter(x, [trial.score for trial in some], s=14, c=colors)
        if numbers and min(values) > 0 and max(values) > 20 * min(values):
            axes.set_xscale("log")
        axes.yaxis.set_major_formatter(PercentFormatter(1, 1))
        axes.set_xlabel(_last(key))
    return figure


def _told(gain: HeldOutGain) -> str:
    days = f"{len(gain.days)} days that it did not see" if len(gain.days) > 1 else "a later day"
    said = f"on {days} {percent(gain.best, exact=True)} against {percent(gain.default, exact=True)}"
    if np.isnan(gain.low):
        return f"{said}, which may be chance"
    low, high = (f"{100 * bound:+.1f} %" for bound in (gain.low, gain.high))
    chance = "" if gain.low > 0 or gain.high < 0 else ", which may be chance"
    return f"{said}{chance} (95 % interval of the error saved: {low} to {high})"


def override_text(value: Value) -> str:
    """A value as an override of the command line has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(override_text, value))}]"
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        # Hydra takes a backslash for one unless a quote follows, be it the last one
        inside = re.sub(r"(\\*)('|\Z)", lambda at: 2 * at[1] + "\\'" * bool(at[2]), value)
        return f"'{inside}'"
    return str(value)


_PLAIN = re.compile(
    r"(?!(?:null|true|false|nan|inf)$)[a-z_][a-z0-9_./-]*", re.IGNORECASE | re.ASCII
)
"""Texts that mean themselves on a command line, and not a number, a truth or nothing."""


def _seconds(trial: FinishedTrial) -> str:
    return f"{trial.seconds:.1f}" if np.isfinite(trial.seconds) else "\N{EN DASH}"


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else override_text(value)


def _last(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _score(trial: FinishedTrial) -> str:
    return f"{100 * trial.score:.2f} %"
