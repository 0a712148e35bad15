"""Data to forecast are compared with those that a bundle was trained with."""

import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories.cohorts import weekly_history
from factories.snapshots import export, latest, rescale, select_cohorts, with_totals

from ltvnet.data.curves import Curves, History
from ltvnet.data.findings import Finding
from ltvnet.prediction.compatibility import LevelComparison
from ltvnet.prediction.training_level import LEVEL_ENTRY, describe_training_level


@pytest.fixture(scope="module")
def history() -> History:
    """Weekly cohorts of two apps, as exported on a day."""
    return export(weekly_history(60, noise=0.3), "2024-02-29")


def findings_of(training: History, pieces: Iterable[Curves]) -> list[Finding]:
    manifest = json.loads(json.dumps({LEVEL_ENTRY: describe_training_level(latest(training))}))
    comparison = LevelComparison.from_manifest(manifest)
    for piece in pieces:
        comparison.add(piece)
    return comparison.findings("check")


def compare(training: History, data: History) -> list[Finding]:
    return findings_of(training, [latest(data)])


def test_the_training_data_say_nothing(history: History) -> None:
    assert compare(history, history) == []
    curves = latest(history)
    pieces = [curves.take(np.arange(n, min(n + 7, len(curves)))) for n in range(0, len(curves), 7)]
    assert findings_of(history, pieces) == []


def test_later_data_and_the_newest_weeks_say_nothing(history: History) -> None:
    assert compare(history, export(weekly_history(70, noise=0.3, seed=1), "2024-05-09")) == []
    newest = select_cohorts(history, history.start >= np.datetime64("2024-02-05"))
    assert compare(history, newest) == []


@pytest.mark.parametrize("factor", [1350.0, 100.0, 1 / 1350])
def test_another_currency_is_refused(history: History, factor: float) -> None:
    (finding,) = compare(history, rescale(history, factor))
    assert finding.severity == "refusal"
    assert "scale=any" in finding.way_out
    assert compare(rescale(history, factor), rescale(history, factor)) == []


def test_newest_weeks_in_another_currency_are_refused(history: History) -> None:
    is_new = history.start >= np.datetime64("2024-01-08")
    (finding,) = compare(history, rescale(history, 1350.0, is_new))
    assert finding.severity == "refusal"


def test_sums_in_place_of_revenue_per_user_are_refused(history: History) -> None:
    assert [f.severity for f in compare(history, with_totals(history))] == ["refusal"]


def test_a_segment_at_another_level_is_named(history: History) -> None:
    is_b = history.attributes["Apps"] == "b"
    findings = compare(history, rescale(history, 4.0, is_b))
    assert {finding.severity for finding in findings} == {"warning"}
    assert all("Apps 'b'" in f.message and "Apps 'a'" not in f.message for f in findings)


def test_one_cohort_in_another_unit_is_named(history: History) -> None:
    row = int(np.argmax(history.users[:60]))
    findings = compare(history, rescale(history, 1000.0, np.arange(len(history)) == row))
    assert findings[-1].subject == "single cohorts"
    name = f"{history.attributes['Apps'][row]} of {history.start[row]}"
    assert name in findings[-1].message


@pytest.mark.parametrize("factor", [10.0, 0.001])
def test_users_of_another_size_are_warned_of(history: History, factor: float) -> None:
    (finding,) = compare(history, replace(history, users=history.users * factor))
    assert (finding.severity, finding.subject) == ("warning", "users")


def test_no_revenue_at_all_is_warned_of(history: History) -> None:
    (finding,) = compare(history, rescale(history, 0.0))
    assert finding.severity == "warning"


def test_data_without_the_attribute_are_compared_as_a_whole(history: History) -> None:
    one_app = select_cohorts(history, history.attributes["Apps"] == "a")
    half = replace(one_app, attributes={}, hierarchy=())
    assert compare(history, half) == []
    assert [f.severity for f in compare(history, rescale(half, 500.0))] == ["refusal"]


@pytest.fixture(scope="module")
def many_apps() -> History:
    """Weekly cohorts of eight apps, as exported on a day."""
    return export(weekly_history(60, "abcdefgh", noise=0.3), "2024-02-29")


@pytest.mark.parametrize("factor", [1350.0, 100.0, 1 / 1350, 1 / 100])
@pytest.mark.parametrize("week", ["2023-06-05", "2024-02-05"])
def test_one_week_in_another_currency_is_refused(
    many_apps: History, factor: float, week: str
) -> None:
    odd = rescale(many_apps, factor, many_apps.start == np.datetime64(week))
    refusals = [f for f in compare(many_apps, odd) if f.severity == "refusal"]
    assert len(refusals) == 1
    assert "scale=any" in refusals[0].way_out
    if factor < 1000:  # else the level of all is far off, too
        assert f" of 8 cohorts from {week} on" in refusals[0].message


def test_a_week_in_pieces_is_refused_as_the_whole(many_apps: History) -> None:
    is_odd = many_apps.start == np.datetime64("2024-02-05")
    curves = latest(rescale(many_apps, 1350.0, is_odd))
    pieces = [curves.take(np.arange(n, min(n + 7, len(curves)))) for n in range(0, len(curves), 7)]
    refusals = [f for f in findings_of(many_apps, pieces) if f.severity == "refusal"]
    assert [f.message for f in refusals] == [
        f.message for f in findings_of(many_apps, [curves]) if f.severity == "refusal"
    ]
    assert len(refusals) == 1


def test_a_few_cohorts_of_a_week_are_warned_of(many_apps: History) -> None:
    is_odd = many_apps.start == np.datetime64("2024-02-05")
    is_odd &= np.isin(many_apps.attributes["Apps"], ["a", "b", "c"])
    findings = compare(many_apps, rescale(many_apps, 1350.0, is_odd))
    assert {finding.severity for finding in findings} == {"warning"}
    assert compare(many_apps, many_apps) == []


def with_spend(history: History, per_user: float, apps: str = "ab") -> History:
    """A history with a spend of 2 per user, and another one in some apps."""
    is_other = np.isin(history.attributes["Apps"], list(apps))
    return replace(history, spend=history.users * np.where(is_other, per_user, 2.0))


@pytest.mark.parametrize("factor", [1350.0, 1 / 1350, 30.0])
def test_spend_in_another_currency_is_refused(history: History, factor: float) -> None:
    paid = with_spend(history, 2.0)
    assert compare(paid, paid) == []
    (finding,) = compare(paid, with_spend(history, 2.0 * factor))
    assert (finding.severity, finding.subject) == ("refusal", "spend")
    assert "scale=any" in finding.way_out


def test_spend_of_a_segment_at_another_level_is_named(history: History) -> None:
    (finding,) = compare(with_spend(history, 2.0), with_spend(history, 10.0, "b"))
    assert (finding.severity, finding.subject) == ("warning", "spend")
    assert "spend per user is far from" in finding.message
    assert "Apps 'b' 10 after 2" in finding.message
    assert "Apps 'a'" not in finding.message


def test_spend_that_one_side_lacks_says_nothing(history: History) -> None:
    paid = with_spend(history, 2.0)
    assert compare(history, paid) == []
    assert compare(paid, history) == []
    assert compare(with_spend(history, 0.0), paid) == []


def test_spend_of_pieces_is_that_of_the_whole(history: History) -> None:
    curves = latest(with_spend(history, 2700.0))
    pieces = [curves.take(np.arange(n, min(n + 7, len(curves)))) for n in range(0, len(curves), 7)]
    assert findings_of(with_spend(history, 2.0), pieces) == findings_of(
        with_spend(history, 2.0), [curves]
    )


def test_a_bundle_without_spend_still_compares_revenue(history: History) -> None:
    record = describe_training_level(latest(with_spend(history, 2.0)))
    del record["total_spend"], record["segments_spend"]
    comparison = LevelComparison.from_manifest({LEVEL_ENTRY: record})
    comparison.add(latest(with_spend(rescale(history, 1350.0), 2700.0)))
    assert [finding.subject for finding in comparison.findings("check")] == ["level"]


def test_an_older_bundle_has_no_level(history: History) -> None:
    comparison = LevelComparison.from_manifest({})
    comparison.add(latest(rescale(history, 1e6)))
    assert comparison.findings("check") == []


def test_another_scale_may_be_accepted(history: History) -> None:
    comparison = LevelComparison.from_manifest(
        {LEVEL_ENTRY: describe_training_level(latest(history))}
    )
    comparison.add(latest(rescale(history, 100.0)))
    assert [finding.severity for finding in comparison.findings("any")] == ["warning"]


def test_a_manifest_holds_no_cohort(history: History) -> None:
    text = json.dumps(describe_training_level(latest(history)))
    assert "2023-" not in text
    assert "2024-" not in text


def test_nothing_is_written_of_data_at_another_scale(
    history: History, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from factories.configs import PATTERN
    from factories.models import make_forecaster

    from ltvnet.prediction.batch import OutputOptions, predict
    from ltvnet.prediction.bundle import load, save

    curves = latest(history)
    save(tmp_path / "bundle", "pattern", make_forecaster(PATTERN).fit(curves), curves, {})
    trained = load(tmp_path / "bundle")
    other = latest(rescale(history, 1350.0))
    pieces = [curves.take(np.arange(3)), other.take(np.arange(3, len(other)))]

    out = tmp_path / "out"
    options = OutputOptions(wide="csv", ages=[30, 360], by=None)
    with pytest.raises(ValueError, match=r"revenue per user at D0 is x1,2\d\d of what the bundle"):
        predict(trained, lambda: pieces, out, options)
    assert not list(out.rglob("*.csv"))
    assert not list(out.rglob("*.parquet"))

    with caplog.at_level(logging.WARNING):
        predict(trained, lambda: pieces, out, replace(options, scale="any"))
    assert "scale=any" in caplog.text
    assert (out / "rollup.csv").exists()
