"""The report of a finished sweep: the best trial, a table of all, and a page to read.

Shapes: T trials.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ltvnet.forecasting.override_words import override_text
from ltvnet.reports import html
from ltvnet.reports.experiment_file import experiment_text
from ltvnet.reports.html import html_table, paragraph, svg_figure
from ltvnet.reports.sweep_figures import short_key, sweep_figures
from ltvnet.reports.wording import exact_percent, fixed_percent, fixed_signed_percent, seconds
from ltvnet.storage import atomic_write
from ltvnet.tuning.search_space import Value, config_value
from ltvnet.tuning.sweep_result import SweepResult
from ltvnet.tuning.trials import COMPLETE, FAILED, PRUNED, FinishedTrial, HeldOutGain

BEST_TRIALS_SHOWN = 10
"""Trials of the table of the best, at most, besides the default."""


def write_sweep_report(result: SweepResult, folder: Path) -> None:
    """Write `best.yaml`, `trials.csv`, `metrics.json` and `report.html`."""
    with atomic_write(folder / "best.yaml") as path:
        path.write_text(experiment_text(result, folder / "best.yaml"), encoding="utf-8")
    with atomic_write(folder / "trials.csv") as path:
        result.trial_table().to_csv(path, index=False)
    with atomic_write(folder / "metrics.json") as path:
        path.write_text(json.dumps(_metrics(result), indent=1))

    title = f"Sweep of {result.title}"
    html.write_html_page(folder / "report.html", title, _summary(result), _sections(result))


def _metrics(result: SweepResult) -> dict[str, object]:
    """Return the scores of the best and of the default, and the gain, as JSON keeps them."""
    metrics: dict[str, object] = {
        "best": result.best_trial.score,
        "trial": result.best_trial.number,
        "trials": len(result.trials),
    }
    if result.default_trial is not None:
        metrics["default"] = result.default_trial.score

    metrics["held_out"] = None
    if result.gain is not None:
        days = [str(day) for day in result.gain.days]
        metrics["held_out"] = {**vars(result.gain), "days": days}
    return metrics


def sweep_finding(result: SweepResult) -> str:
    """Say what came out of a sweep, in a sentence or two."""
    best, default = result.best_trial, result.default_trial
    if default is None or result.error_saved is None:
        caveat = "" if best.allowed else ", with more bias than is allowed"
        return f"Trial {best.number} is the best, at {_score(best)}{caveat}; the default failed"
    if best.default:
        is_lowest = result.finished_trials[0] is best
        condition = "" if is_lowest else " without more bias than is allowed"
        return f"No trial{condition} was better than the default, at {_score(default)}"

    finding = (
        f"Trial {best.number} scores {_score(best)} where the default scores {_score(default)}: "
        f"{exact_percent(result.error_saved)} less error on the days of the sweep"
    )
    if result.gain is not None:
        finding += f"; {_describe_gain(result.gain)}"
    return finding


def _describe_gain(gain: HeldOutGain) -> str:
    """Say what the best saves on days that the sweep did not see, and whether beyond chance."""
    days = "a later day"
    if len(gain.days) > 1:
        days = f"{len(gain.days)} days that it did not see"
    scores = f"on {days} {exact_percent(gain.best)} against {exact_percent(gain.default)}"
    if np.isnan(gain.low):
        return f"{scores}, which may be chance"

    is_beyond_chance = gain.low > 0 or gain.high < 0
    caveat = "" if is_beyond_chance else ", which may be chance"
    low, high = fixed_signed_percent(gain.low, 1), fixed_signed_percent(gain.high, 1)
    return f"{scores}{caveat} (95 % interval of the error saved: {low} to {high})"


def _summary(result: SweepResult) -> str:
    """Return the top of the page: the finding, and how many trials it rests on."""
    states = [trial.state for trial in result.trials]
    counts = {state: states.count(state) for state in (COMPLETE, PRUNED, FAILED)}
    endings = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    return paragraph(sweep_finding(result), "lead") + paragraph(
        f"{len(result.trials)} trials: {endings}. The score is the mean WAPE at D90, D180, D360 of "
        f"cohorts cut to 7 and 30 days, on {len(result.task.origins)} past days."
    )


def _sections(result: SweepResult) -> dict[str, str | None]:
    """Return the sections of the page by heading, empty where there is nothing to say."""
    svg = {name: svg_figure(name, figure) for name, figure in sweep_figures(result).items()}
    failures = [
        paragraph(f"Trial {trial.number}: {trial.error}") for trial in result.trials if trial.error
    ]
    return {
        "Is the gain real?": _gain_section(result),
        "What did the best change?": _change_section(result),
        "Which trials were the best?": _best_section(result),
        "Which are quick and good?": _front_section(result) if result.pareto else "",
        "How did the sweep go?": svg["course of the sweep"],
        "Which keys mattered?": svg.get("importance of keys", ""),
        "Which values were good?": svg.get("score by value", ""),
        "What failed?": "".join(failures),
    }


def _gain_section(result: SweepResult) -> str:
    """Say what the best saves on later days; empty where the best is the default, untested."""
    if result.gain is None:
        if result.best_trial.default:
            return ""
        return paragraph("Nothing has matured on later days that could test it.")
    days = ", ".join(map(str, result.gain.days))
    return paragraph(
        f"Tested on {days}: {_describe_gain(result.gain)}. A sweep fits the days that it is scored "
        "on, so what it saves there is more than what it will save."
    )


def _change_section(result: SweepResult) -> str:
    """Show the values of the best trial beside the default and all that was tried."""
    tried = {dimension.key: str(dimension) for dimension in result.task.space.dimensions}
    rows = []
    for key, value in result.best_trial.values.items():
        default = override_text(config_value(result.task.config, key))
        rows.append([key, default, _short_value(value), tried[key]])
    title = f"Trial {result.best_trial.number}"
    return html_table(title, ["key", "default", "best", "tried"], rows)


def _best_section(result: SweepResult) -> str:
    """Show the trials with the lowest scores, and the default wherever it stands."""
    trials = result.finished_trials[:BEST_TRIALS_SHOWN]
    default = result.default_trial
    if default is not None and default not in trials:
        trials = [*trials, default]

    title = "The lowest scores."
    if any(not trial.allowed for trial in trials):
        title += " Those with too much bias are left out of the choice."
    return _trial_table(title, result, trials)


def _front_section(result: SweepResult) -> str:
    """Show the trials that no other beats in score and seconds both."""
    return _trial_table("None of the others is better in both", result, result.pareto_front)


def _trial_table(title: str, result: SweepResult, trials: Sequence[FinishedTrial]) -> str:
    """Show trials, a row each: score, bias, seconds and values."""
    keys = [dimension.key for dimension in result.task.space.dimensions]
    head = ["trial", "score", "bias D180", "bias D360", "seconds a fit"]
    head += [short_key(key) for key in keys]

    rows = []
    for trial in trials:
        name = f"{trial.number} (default)" if trial.default else str(trial.number)
        biases = [exact_percent(trial.bias.get(f"bias_d{h}", np.nan)) for h in (180, 360)]
        values = [_short_value(trial.values[key]) if key in trial.values else "" for key in keys]
        rows.append([name, _score(trial), *biases, seconds(trial.seconds), *values])
    return html_table(title, head, rows)


def _short_value(value: Value) -> str:
    """Return a value as an override has it, numbers with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else override_text(value)


def _score(trial: FinishedTrial) -> str:
    """Return the score of a trial, a share, in per cent with two decimals."""
    return fixed_percent(trial.score, 2)
