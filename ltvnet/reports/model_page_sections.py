"""Sections of a model's page that are tables: scores, leaderboard, corrections, roll-up, reasons.

Each is HTML; empty where there is nothing to say, None where there is nothing to show yet.

Shapes: N cohorts, E past forecasts, B buckets of observed age, S segments, I intervals between
nodes, M models.
"""

from collections.abc import Sequence
from html import escape
from textwrap import shorten

import numpy as np
import pandas as pd

from ltvnet.backtesting.error_analysis import (
    CaseErrors,
    PatternContest,
    growth_errors,
    hold_against_pattern,
)
from ltvnet.backtesting.leaderboard import Leaderboard
from ltvnet.backtesting.scores import BacktestRecord
from ltvnet.correction.correction import Correction
from ltvnet.correction.stages import LearnedStages
from ltvnet.data.curves import MAX_AGE, NODES
from ltvnet.forecasting.explanation import TERMS, Explanation
from ltvnet.forecasting.forecast import AGE_BUCKET_LABELS, Forecast
from ltvnet.forecasting.rollup import RevenueRollup, rollup_revenue
from ltvnet.reports import leaderboard_tables
from ltvnet.reports.findings import NO_REVENUE
from ltvnet.reports.html import html_table, paragraph
from ltvnet.reports.wording import (
    UNKNOWN,
    amount,
    count,
    count_with_noun,
    exact_percent,
    fixed_percent,
    percent,
    signed_amount,
    signed_percent,
)

ROLLUP_ROWS = 15
"""Rows of the roll-up, at most, besides that of all cohorts."""

EXPLAINED_COHORTS = 6
"""Cohorts whose forecast is explained, at most."""


def score_section(records: Sequence[BacktestRecord], ages: Sequence[int]) -> str | None:
    """Show error, bias and coverage by observed age and horizon, models beside the pattern.

    Of the cases in which a forecast of the first of `records` has matured.
    """
    contest = hold_against_pattern(records, ages)
    if contest is None:
        return None

    error_names = [*contest.model_names, "pattern alone"]
    bias_names = ["pattern alone"]
    if contest.first_is_model:
        bias_names.insert(0, contest.model_names[0])

    head = ["made on", "horizon", "cohorts", *(f"error: {name}" for name in error_names)]
    head += ["best possible", *(f"bias: {name}" for name in bias_names), "80 % interval held"]
    rows = [_score_row(case, first_is_model=contest.first_is_model) for case in contest.cases]
    return html_table(_contest_finding(contest), head, rows)


def _score_row(case: CaseErrors, *, first_is_model: bool) -> list[str]:
    """Word age, horizon, number of cohorts, errors, biases and coverage of one case."""
    wapes = (*case.wapes, case.pattern_wape, case.least_wape)
    biases = [case.pattern_bias]
    if first_is_model:
        biases.insert(0, case.bias)
    return [
        f"D{case.observed_age}",
        f"D{case.horizon}",
        count(case.cohort_count),
        *map(exact_percent, wapes),
        *map(signed_percent, biases),
        percent(case.coverage.share),
    ]


def _contest_finding(contest: PatternContest) -> str:
    """Say in how many cases the first model was closer than the pattern, and in how many worse."""
    if not contest.has_revenue:
        return NO_REVENUE
    if not contest.first_is_model:
        return "How far off the pattern alone was"
    cases = count_with_noun(len(contest.cases), "case")
    return (
        f"{contest.model_names[0]} was closer than the pattern in {contest.closer_count} of "
        f"{cases}, worse in {contest.worse_count}"
    )


def leaderboard_section(board: Leaderboard) -> str:
    """Show models by score, and their errors by observed age and horizon."""
    head, rows = leaderboard_tables.summary_table(board)
    tables = [html_table(leaderboard_tables.state_finding(board), head, rows)]
    for heading, error_head, error_rows in leaderboard_tables.error_tables(board):
        tables.append(html_table(heading, error_head, error_rows))
    return "".join(tables) + paragraph(leaderboard_tables.LEADERBOARD_LEGEND)


def correction_section(
    stages: LearnedStages | None,
    records: Sequence[BacktestRecord],
    model_names: Sequence[str],
) -> str | None:
    """Show what is blended and corrected, by observed age and, where it is on, by interval.

    `model_names` of the models that the forecast weighs, one or several.
    """
    if stages is None:
        return None
    correction = stages.correction
    if not correction.is_on.any() and not stages.blend.is_on.any():
        text = "No persistent error was found at any age, so nothing is corrected."
        if len(model_names) > 1:
            text += f" The forecast is the mean of {', '.join(model_names)}."
        return paragraph(text)
    section = _weight_table(stages, model_names)

    factor_rows: list[list[str]] = []
    if records:
        for bucket in np.flatnonzero(correction.is_on):
            factor_rows += _factor_rows(correction, records[0], int(bucket))
    if not factor_rows:
        return section
    head = ["days observed", "growth", "factor", "by segment", "rows behind it"]
    head += ["bias before", "bias after", "error before", "error after"]
    section += html_table("Growth between two days is multiplied by the factor", head, factor_rows)
    return section + paragraph(
        "Factors within 0.5 % of 1 are left out. Errors are those of past growth."
    )


def _weight_table(stages: LearnedStages, model_names: Sequence[str]) -> str:
    """Show the weights of the models and the state of the correction by observed age."""
    correction = stages.correction
    blend = stages.blend
    is_mixture = len(model_names) > 1
    weights = blend.weight  # (B, M)
    weight_names = ["weight of the model, the rest is the pattern's"]
    if is_mixture:
        weights = np.column_stack((weights, blend.pattern_weight))  # (B, M + 1)
        weight_names = [f"weight of {name}" for name in (*model_names, "the pattern")]

    rows = []
    for bucket, label in enumerate(AGE_BUCKET_LABELS):
        shares = [fixed_percent(weight, 0) for weight in weights[bucket]]
        state = ["off", UNKNOWN]
        if correction.is_on[bucket]:
            state = ["on", f"{correction.kappa[bucket]:.0f}"]
        rows.append([label, *shares, *state])

    head = ["days observed", *weight_names, "correction"]
    head.append("kappa: as many typical rows go half of the way")
    return html_table(_correction_finding(stages, is_mixture=is_mixture), head, rows)


def _correction_finding(stages: LearnedStages, *, is_mixture: bool) -> str:
    """Say at which observed ages forecasts are corrected, or else blended."""
    buckets = np.flatnonzero(stages.correction.is_on)
    if len(buckets):
        change = "are corrected"
    else:
        buckets = np.flatnonzero(stages.blend.is_on)
        change = "weigh the models" if is_mixture else "are blended with the pattern"
    days = ", ".join(AGE_BUCKET_LABELS[bucket] for bucket in buckets)
    return f"Forecasts of cohorts {days} days old {change}"


def _factor_rows(correction: Correction, record: BacktestRecord, bucket: int) -> list[list[str]]:
    """Return the factors of a bucket by interval, with the error of growth before and after."""
    rows = []
    for factor in correction.noticeable_factors(bucket):
        interval = factor.interval
        before = growth_errors(record, bucket, interval, "blended")
        after = growth_errors(record, bucket, interval, "corrected")
        rows.append(
            [
                AGE_BUCKET_LABELS[bucket],
                f"D{NODES[interval]} to D{NODES[interval + 1]}",
                f"{factor.overall:.3f}",
                f"{factor.lowest:.2f} to {factor.highest:.2f}",
                f"{factor.increment_count:,}",
                signed_percent(before.bias),
                signed_percent(after.bias),
                percent(before.wape),
                percent(after.wape),
            ]
        )
    return rows


def rollup_section(forecast: Forecast) -> str:
    """Show users, spend, revenue and what is forecast of it, by campaign and in total."""
    rollup = rollup_revenue(forecast)
    sums = rollup.sums
    rows = []
    shown_sums = pd.concat([sums[:-1][:ROLLUP_ROWS], sums[-1:]])
    for name, values in zip(shown_sums.index, shown_sums.to_numpy().tolist(), strict=True):
        amounts = [amount(value) for value in values[:5]]
        shares = [percent(share) for share in values[5:]]
        rows.append([str(name), *amounts, *shares])

    head = [rollup.attribute, "users", "spend", "revenue so far"]
    head += ["revenue by D180", "revenue by D360", "ROAS D180", "ROAS D360"]
    table = html_table(_rollup_finding(rollup), head, rows)
    return table + paragraph(_rollup_note(forecast, len(sums) - 1))


def _rollup_finding(rollup: RevenueRollup) -> str:
    """Say how many earn back their spend, or else which is the largest, or the revenue alone."""
    sums = rollup.sums
    if len(sums) == 1:
        earned = amount(sums["so far"].iloc[-1])
        return f"{amount(sums['360'].iloc[-1])} of revenue by D360, of which {earned} has come"

    value_count = len(rollup.known_roas)
    if not value_count:
        share = percent(rollup.largest_share)
        return f"{sums.index[0]} is the largest, with {share} of the revenue by D360"
    earning_back = rollup.earning_back_count
    verb = "is forecast to earn back its"
    if earning_back != 1:
        verb = "are forecast to earn back their"
    return f"{earning_back} of {value_count} {verb} spend by D360"


def _rollup_note(forecast: Forecast, value_count: int) -> str:
    """Say what the amounts mean, how many of the values are shown, and how far data reach."""
    note = (
        f"As of {forecast.curves.origin}, in the currency of the data. Cohorts that are older "
        "than 180 days count in the column D180 with what they had earned by then. "
    )
    if value_count > ROLLUP_ROWS:
        note += f"Shown are the {ROLLUP_ROWS} largest of {value_count}. "
    last_age = forecast.last_supported_age
    if last_age < MAX_AGE:
        note += f"Few cohorts have got beyond D{last_age}: take what lies there as rough."
    return note


def explanation_section(explanation: Explanation) -> str:
    """Show why the forecasts that are the furthest from their segment's are high or low."""
    furthest = explanation.furthest_cohorts(EXPLAINED_COHORTS)
    if not len(furthest):
        return ""
    curves = explanation.curves
    rows = []
    reasons = []
    for row, sentence in zip(furthest, explanation.sentences(furthest), strict=True):
        attributes = " ".join(text[row] for text in curves.attributes.values())
        name = f"{curves.start[row]} {attributes}".strip()
        short_name = shorten(name, 48, placeholder=" ...")
        usual = amount(explanation.segment_mean[row])
        terms = [signed_amount(term) for term in explanation.terms[row]]
        rows.append([short_name, usual, *terms, amount(explanation.forecast[row])])

        users = count(curves.users[row])
        subject = f"{name}: {users} users, observed to D{curves.observed_age[row]}"
        reasons.append(f"<dt>{escape(subject)}</dt><dd>{escape(str(sentence))}</dd>")

    subjects = "cohort whose forecast is"
    if len(furthest) != 1:
        subjects = f"{len(furthest)} cohorts whose forecasts are"
    head = ["cohort", "its segment", *TERMS, f"D{explanation.horizon}"]
    table = html_table(f"The {subjects} the furthest from usual, in revenue", head, rows)
    note = paragraph("Revenue per user, which adds up from the left to the right.")
    return f"{table}{note}<dl>{''.join(reasons)}</dl>"
