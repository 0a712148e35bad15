"""The result of a sweep: the best is fair, its file gives it again, the page says what came out."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories.cohorts import weekly_history
from factories.configs import compose_config
from factories.models import make_run_context
from factories.sweeps import SWEEP_CONFIG, SWEEP_DATE
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ltvnet.forecasting.override_words import override_text
from ltvnet.reports.experiment_file import experiment_text
from ltvnet.reports.sweep_figures import sweep_figures
from ltvnet.reports.sweep_report import sweep_finding, write_sweep_report
from ltvnet.tuning.search_space import Value, replace_config_values
from ltvnet.tuning.sweep_result import SweepResult
from ltvnet.tuning.trials import COMPLETE, FAILED, PRUNED, FinishedTrial, HeldOutGain, SweepTask

MODEL: Mapping[str, Any] = SWEEP_CONFIG["model"] | {
    "loss": "huber",
    "rate": 0.01,
    "net": {"units": [32, 16], "norm": False},
}
SPACE: Mapping[str, Any] = {
    "model": {
        "half_life": [None, 90.0, 180],
        "loss": ["huber", "deviance"],
        "rate": {"low": 0.0001, "high": 0.1, "log": True},
        "net": {"units": [[32, 16], [8]], "norm": [False, True]},
    }
}
DEFAULT: Mapping[str, Value] = {
    "model.half_life": None,
    "model.loss": "huber",
    "model.rate": 0.01,
    "model.net.units": [32, 16],
    "model.net.norm": False,
}
VALUES = {
    **DEFAULT,
    "model.half_life": 90.0,
    "model.net.units": [8],
    "model.net.norm": True,
    "model.rate": 2.5e-05,
}
GAIN = HeldOutGain([SWEEP_DATE, SWEEP_DATE + 91], 0.25, 0.2, 0.2, 0.1, 0.3)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> SweepTask:
    config = {**SWEEP_CONFIG, "model": MODEL}
    return SweepTask.from_config(
        config,
        make_run_context(),
        SPACE,
        weekly_history(78),
        SWEEP_DATE,
        tmp_path_factory.mktemp("sweep"),
    )


def trial(number: int, score: float, **changes: object) -> FinishedTrial:
    fields: dict[str, Any] = {
        "number": number,
        "state": COMPLETE,
        "values": VALUES,
        "default": False,
        "score": score,
        "bias": {"bias_d180": 0.01, "bias_d360": -0.015},
        "allowed": True,
        "seconds": 1.5,
        "took": 3.0,
        "days": 3,
        "error": "",
    }
    return FinishedTrial(**fields | changes)


def standard(score: float, number: int = 0, **changes: object) -> FinishedTrial:
    return trial(number, score, default=True, values=DEFAULT, **changes)


PART = trial(3, 0.5, state=PRUNED, days=1, allowed=False, bias={}, seconds=np.nan)
BROKEN = trial(
    4, np.nan, state=FAILED, days=0, error="expected <b>", values={}, bias={}, took=np.nan
)
ALL = [standard(0.25), trial(1, 0.3), trial(2, 0.2), PART, BROKEN]


def search(task: SweepTask, trials: Sequence[FinishedTrial], **changes: Any) -> SweepResult:  # noqa: ANN401
    arguments: dict[str, Any] = {
        "importances": {},
        "pareto": False,
        "overrides": ["data=simulated"],
    }
    return SweepResult("lstm", task, trials, **arguments | changes)


def test_the_best_has_no_bias_that_is_not_allowed(task: SweepTask) -> None:
    unfair = trial(5, 0.1, allowed=False)
    assert search(task, [*ALL, unfair]).best_trial.number == 2
    assert search(task, [*ALL, unfair]).finished_trials[0].number == 5
    assert search(task, [trial(2, 0.2, state=PRUNED), *ALL[:2]]).best_trial.number == 0


def test_the_default_may_be_biased(task: SweepTask) -> None:
    """Who does not sweep has it anyway; where none is allowed, the closest is the best."""
    unfair = trial(5, 0.1, allowed=False)
    assert search(task, [standard(0.2, allowed=False), unfair, trial(1, 0.3)]).best_trial.default
    assert search(task, [unfair, trial(6, 0.2, allowed=False)]).best_trial is unfair


def test_a_sweep_has_a_trial_that_finished(task: SweepTask) -> None:
    message = "expected a finished trial, got none of 2: expected <b>"
    with pytest.raises(ValueError, match=message):
        search(task, [PART, BROKEN])
    with pytest.raises(ValueError, match=r"got none of 0$"):
        search(task, [])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=9))
def test_none_of_the_front_is_beaten(points: Sequence[tuple[int, int]]) -> None:
    """By one that is as good in both and better in one; of equals one is there; quickest last."""
    task: Any = None
    trials = [trial(n, score / 8, seconds=float(s)) for n, (score, s) in enumerate(points)]
    front = [
        (best_trial.score * 8, best_trial.seconds)
        for best_trial in search(task, trials, pareto=True).pareto_front
    ]
    assert set(front) == {
        (a, b)
        for a, b in points
        if not any((c, d) != (a, b) and c <= a and d <= b for c, d in points)
    }
    assert front == sorted(set(front)) == sorted(front, key=lambda point: -point[1])


def test_findings_are_told(task: SweepTask) -> None:
    """0.2 is 20 % below 0.25."""
    best = "Trial 2 scores 20.00 % where the default scores 25.00 %: 20.0 % less error on the days "
    assert sweep_finding(search(task, ALL)) == best + "of the sweep"
    assert sweep_finding(search(task, ALL, gain=GAIN)) == (
        best + "of the sweep; on 2 days that it did not see 20.0 % against 25.0 % (95 % interval "
        "of the error saved: +10.0 % to +30.0 %)"
    )
    assert (
        sweep_finding(search(task, ALL[:2])) == "No trial was better than the default, at 25.00 %"
    )
    broken = replace(standard(np.nan), state=FAILED)
    assert sweep_finding(search(task, [broken, trial(2, 0.2)])) == (
        "Trial 2 is the best, at 20.00 %; the default failed"
    )


@pytest.mark.parametrize(
    ("gain", "end"),
    [
        (
            replace(GAIN, days=[SWEEP_DATE]),
            "on a later day 20.0 % against 25.0 % (95 % interval of the ",
        ),
        (
            replace(GAIN, low=-0.1),
            "25.0 %, which may be chance (95 % interval of the error saved: -10.0 % to +30.0 %)",
        ),
        (
            replace(GAIN, low=-0.3, high=-0.1),
            "against 25.0 % (95 % interval of the error saved: -30.0 % to -10.0 %)",
        ),
        (
            replace(GAIN, low=np.nan, high=np.nan),
            "on 2 days that it did not see 20.0 % against 25.0 %, which may be chance",
        ),
    ],
)
def test_chance_is_told(task: SweepTask, gain: HeldOutGain, end: str) -> None:
    assert end in sweep_finding(search(task, ALL, gain=gain))
    assert "nan" not in sweep_finding(search(task, ALL, gain=gain))


def test_all_trials_are_in_a_table(task: SweepTask, tmp_path: Path) -> None:
    write_sweep_report(search(task, ALL), tmp_path)
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert [row["number"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["state"] for row in rows] == [COMPLETE] * 3 + [PRUNED, FAILED]
    assert rows[2] == {
        "number": "2",
        "state": COMPLETE,
        "score": "0.2",
        "allowed": "True",
        "seconds": "1.5",
        "took": "3.0",
        "days": "3",
        "error": "",
        "bias_d180": "0.01",
        "bias_d360": "-0.015",
        "model.half_life": "90.0",
        "model.loss": "huber",
        "model.rate": "2.5e-05",
        "model.net.units": "[8]",
        "model.net.norm": "True",
    }
    assert rows[4]["error"] == "expected <b>" and rows[4]["score"] == rows[4]["model.loss"] == ""


def test_numbers_are_written_for_machines(task: SweepTask, tmp_path: Path) -> None:
    write_sweep_report(search(task, ALL, gain=GAIN), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    gain = {"default": 0.25, "best": 0.2, "saved": 0.2, "low": 0.1, "high": 0.3}
    assert metrics.pop("held_out") == gain | {"days": ["2024-05-30", "2024-08-29"]}
    assert metrics == {"best": 0.2, "trial": 2, "trials": 5, "default": 0.25}
    write_sweep_report(search(task, [trial(2, 0.2)]), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == {"best": 0.2, "trial": 2, "trials": 1, "held_out": None}


SECTIONS = [
    "Is the gain real?",
    "What did the best change?",
    "Which trials were the best?",
    "Which are quick and good?",
    "How did the sweep go?",
    "Which keys mattered?",
    "Which values were good?",
    "What failed?",
]


def page(found: SweepResult, folder: Path) -> str:
    """The report, which prints nothing that is not known."""
    write_sweep_report(found, folder)
    text = (folder / "report.html").read_text()
    visible_text = re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL))
    assert not re.search(r"\b(nan|NaN|None(?! of the others)|inf)\b", visible_text)
    return text


def headings(text: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", text)


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of a section's table."""
    section = text.partition(f"<h2>{heading}</h2>")[2].partition("</section>")[0]
    return [re.findall("<t[hd]>(.*?)</t[hd]>", row) for row in section.split("</tr>")[:-1]]


MATTERED = {"model.rate": 0.75, "model.net.units": 0.25}


def test_a_page_has_all_sections(task: SweepTask, tmp_path: Path) -> None:
    unknown = trial(6, 0.26, seconds=np.nan, bias={}, values={"model.loss": "deviance"})
    swept = search(task, [*ALL, unknown], importances=MATTERED, pareto=True, gain=GAIN)
    text = page(swept, tmp_path)
    assert headings(text) == SECTIONS
    assert "6 trials: 4 complete, 1 pruned, 1 failed. The score is the mean WAPE" in text
    assert "on 3 past days" in text and "<title>Sweep of lstm</title>" in text
    assert (
        "Tested on 2024-05-30, 2024-08-29: on 2 days that it did not see 20.0 % against 25.0 %"
        in text
    )
    assert "Trial 4: expected &lt;b&gt;" in text
    assert "model.rate mattered the most for which trials were good" in text
    assert text.count("<figure") == 3
    assert rows(text, SECTIONS[1])[1:] == [
        ["model.half_life", "null", "90", "one of null, 90.0, 180"],
        ["model.loss", "huber", "huber", "one of huber, deviance"],
        ["model.rate", "0.01", "2.5e-05", "0.0001 to 0.1"],
        ["model.net.units", "[32,16]", "[8]", "one of [32, 16], [8]"],
        ["model.net.norm", "false", "true", "one of false, true"],
    ]
    assert rows(text, SECTIONS[3])[1:] == rows(text, SECTIONS[2])[1:2]
    first, *_, last = rows(text, SECTIONS[2])[1:]
    assert first == [
        "2",
        "20.00 %",
        "1.0 %",
        "1.5 %",
        "1.5",
        "90",
        "huber",
        "2.5e-05",
        "[8]",
        "true",
    ]
    assert last[:6] == ["1", "30.00 %", "1.0 %", "1.5 %", "1.5", "90"]


def test_a_page_of_little_has_few_sections(task: SweepTask, tmp_path: Path) -> None:
    """One trial, which is the default: it changed nothing."""
    text = page(search(task, [standard(0.25)]), tmp_path)
    assert headings(text) == [SECTIONS[1], SECTIONS[2], SECTIONS[4]]
    assert text.count("<figure") == 1
    text = page(search(task, ALL[:3]), tmp_path)
    assert "Nothing has matured on later days that could test it." in text
    assert headings(text) == [*SECTIONS[:3], SECTIONS[4], SECTIONS[6]]


def test_the_default_is_shown_beside_the_best(task: SweepTask, tmp_path: Path) -> None:
    """Ten are shown, and the default though eleven are better; biased ones are told of."""
    trials = [standard(0.9), *(trial(n, 0.1 + n / 100) for n in range(1, 12))]
    text = page(search(task, trials), tmp_path)
    names = [row[0] for row in rows(text, SECTIONS[2])[1:]]
    assert names == [str(n) for n in range(1, 11)] + ["0 (default)"]
    assert "left out of the choice" not in text
    text = page(search(task, [*trials, trial(12, 0.05, allowed=False)]), tmp_path)
    assert "The lowest scores. Those with too much bias are left out of the choice." in text


def test_figures_have_names_and_what_they_draw(task: SweepTask) -> None:
    figures = sweep_figures(search(task, ALL, importances=MATTERED))
    assert list(figures) == ["course of the sweep", "importance of keys", "score by value"]
    course = figures["course of the sweep"].axes[0]
    np.testing.assert_array_equal(course.lines[0].get_xydata(), [[0, 0.25], [1, 0.25], [2, 0.2]])
    complete, pruned = (points.get_offsets().tolist() for points in course.collections)
    assert complete == [[0, 0.25], [1, 0.3], [2, 0.2]]
    assert pruned == [[3, course.get_ylim()[1]]]  # at the edge: its score is of other days
    bars = figures["importance of keys"].axes[0]
    assert [name.get_text() for name in bars.get_yticklabels()] == ["model.net.units", "model.rate"]
    assert [bar.get_width() for bar in bars.patches] == [0.25, 0.75]
    names = [axes.get_xlabel() for axes in figures["score by value"].axes]
    assert names == ["rate", "units", "half_life", "loss", "norm"]
    scales = [axes.get_xscale() for axes in figures["score by value"].axes]
    assert scales == ["log", *["linear"] * 4]
    figures["score by value"].canvas.draw()
    rate = figures["score by value"].axes[0].xaxis
    texts = [
        label.get_text() for label in (*rate.get_majorticklabels(), *rate.get_minorticklabels())
    ]
    assert all(float(text) for text in texts if text)  # no formula, and no digit twice
    assert len(set(filter(None, texts))) == sum(map(bool, texts)) <= 6


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False)
    | st.text(st.characters(blacklist_categories=("Cs", "Cc"))).filter(lambda t: "${" not in t)
    | st.sampled_from(["null", "True", "nan", "-inf", "1e3", "1_0", "it's", "\\", "a\\'", "\\\\'"]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)
PARSER = OverridesParser.create()


def alike(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return type(one) is type(other) and one == other


@settings(max_examples=300, deadline=None)
@given(VALUE)
def test_hydra_reads_what_is_written(value: Value) -> None:
    override = PARSER.parse_override(f"model.key={override_text(value)}")
    assert alike(override.value(), value), (override_text(value), override.value())


def test_plain_words_are_written_plainly() -> None:
    texts = {"huber": "huber", "a/b.csv": "a/b.csv", "null": "'null'", "7d": "'7d'", "": "''"}
    assert {value: override_text(value) for value in texts} == texts
    assert override_text([None, True, 1, 2.5, "a b", [3]]) == "[null,true,1,2.5,'a b',[3]]"
    assert override_text((1, 2)) == "[1,2]"


SWEPT: Mapping[str, Value] = {
    "model.half_life": 90.0,
    "model.training.loss": "deviance",
    "model.training.rate": 2.5e-05,
    "model.training.epochs": 8,
    "model.net.units": [64, 32],
    "model.covariates.spend": True,
    "model.covariates.holidays": None,
    "model.pattern.kappa": "learned",
    "validation.plan.window": "sliding:52w",
}


def test_the_best_can_be_composed(task: SweepTask, tmp_path: Path) -> None:
    """With the words of the sweep before it, and as of the day that the sweep did not pass."""
    swept = {key: value for key, value in SWEPT.items() if key != "model.half_life"}
    sweep_overrides = ["model=lstm", "seed=3", "model.training.rate=0.5", "validation.origins=4"]
    best = trial(2, 0.2, values=swept)
    search_of_best = replace(
        search(task, [best], overrides=sweep_overrides), title="it's mine, all 100 %"
    )
    path = tmp_path / "best.yaml"
    path.write_text(experiment_text(search_of_best, path))
    loaded = OmegaConf.load(path)
    assert list(loaded) == ["overrides"]
    config: Any = OmegaConf.to_container(compose_config("train", *loaded.overrides))
    assert (config["seed"], config["validation"]["origins"]) == (3, 4)
    assert (config["title"], str(config["as_of"])) == ("it's mine, all 100 %", str(SWEEP_DATE))
    plain: Any = OmegaConf.to_container(
        compose_config("train", "model=lstm", "validation.origins=4")
    )
    expected = replace_config_values(plain, swept)
    assert config["model"] == expected["model"] and config["validation"] == expected["validation"]
    text = path.read_text()
    assert "# Trial 2 of 1: score 20.00 % on 3 past days before 2024-05-30.\n" in text
    assert f"python scripts/train.py experiment={path}\n" in text
    assert f"python scripts/train.py experiment={path} as_of=null\n" in text


def test_the_best_file_is_written(task: SweepTask, tmp_path: Path) -> None:
    write_sweep_report(search(task, ALL), tmp_path)
    loaded: Any = OmegaConf.load(tmp_path / "best.yaml")
    assert list(loaded.overrides) == [
        "data=simulated",
        "title=lstm",
        "as_of=2024-05-30",
        "model.half_life=90.0",
        "model.loss=huber",
        "model.rate=2.5e-05",
        "model.net.units=[8]",
        "model.net.norm=true",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {
        "best.yaml",
        "trials.csv",
        "metrics.json",
        "report.html",
    }
