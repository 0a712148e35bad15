"""Sections of a model's page that are tables: scores, leaderboard, corrections, roll-up, reasons.

Each is HTML; empty where there is nothing to say, None where there is nothing to show yet.

Shapes: N cohorts, E past forecasts, B buckets of observed age, S segments, I intervals between
nodes, M models.
"""

from collections.abc import Sequence
from html import escape
from textwrap import shorten
from typing import Literal

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
from ltvnet.data.checks import MIN_COHORTS_PER_AGE
from ltvnet.data.curves import MAX_AGE, NODES
from ltvnet.forecasting.explanation import TERMS, Explanation
from ltvnet.forecasting.forecast import AGE_BUCKET_LABELS, Forecast
from ltvnet.forecasting.payback import Payback, sum_payback
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
    knows_least_error = bool(np.isfinite([case.least_wape for case in contest.cases]).any())

    head = ["made on", "horizon", "cohorts", *(f"error: {name}" for name in error_names)]
    if knows_least_error:
        head.append("best possible")
    head += [*(f"bias: {name}" for name in bias_names), "80 % interval held"]

    rows = []
    for case in contest.cases:
        errors = [*case.wapes, case.pattern_wape]
        if knows_least_error:
            errors.append(case.least_wape)
        biases = [case.pattern_bias]
        if contest.first_is_model:
            biases.insert(0, case.bias)
        rows.append(_score_row(case, errors, biases))
    return html_table(_contest_finding(contest), head, rows)


def _score_row(case: CaseErrors, errors: Sequence[float], biases: Sequence[float]) -> list[str]:
    """Word age, horizon, number of cohorts, errors, biases and coverage of one case."""
    return [
        f"D{case.observed_age}",
        f"D{case.horizon}",
        count(case.cohort_count),
        *map(exact_percent, errors),
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


def interval_note(stages: LearnedStages | None) -> str:
    """Say for which cohorts there are no intervals now; empty where there are for all."""
    if stages is None or stages.is_calibrated.all():
        return ""
    if not stages.has_intervals:
        return paragraph("Forecasts have no intervals now: too few have come true to check them.")
    ages = ", ".join(np.array(AGE_BUCKET_LABELS)[~stages.is_calibrated])
    return paragraph(
        f"Forecasts of cohorts {ages} days old have no intervals now: too few forecasts of such "
        "cohorts have come true to check them."
    )


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
    head = ["days observed", "growth", "factor", "lowest and highest segment", "past forecasts"]
    head += ["bias without", "bias with", "error without", "error with"]
    section += html_table("Growth between two days is multiplied by the factor", head, factor_rows)
    note = (
        "Factors within 0.5 % of 1 are left out. Bias and error are those of past growth, without "
        "and with the corrections that were on then."
    )
    if any(UNKNOWN in row for row in factor_rows):
        note += f" {UNKNOWN}: this one was not on yet, it is new."
    return section + paragraph(note)


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
    head.append("past forecasts until half of an error is corrected")
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
        was_on = not np.allclose(before, after, equal_nan=True)
        rows.append(
            [
                AGE_BUCKET_LABELS[bucket],
                f"D{NODES[interval]} to D{NODES[interval + 1]}",
                f"{factor.overall:.3f}",
                f"{factor.lowest:.2f} to {factor.highest:.2f}",
                f"{factor.increment_count:,}",
                signed_percent(before.bias),
                signed_percent(after.bias) if was_on else UNKNOWN,
                percent(before.wape),
                percent(after.wape) if was_on else UNKNOWN,
            ]
        )
    return rows


def payback_section(forecast: Forecast) -> str:
    """Show spend, revenue and ROAS of young cohorts, by campaign and in total, as far as known."""
    payback = sum_payback(forecast)
    if payback is None:
        oldest = f"Every cohort with a complete day is D{MAX_AGE} old"
        return paragraph(f"{oldest}: nothing is left to forecast.")

    columns = _payback_columns(payback)
    sums = payback.sums
    shown = [*range(len(sums) - 1)[:ROLLUP_ROWS], len(sums) - 1]
    rows = [[str(sums.index[row]), *(cells[row] for cells in columns.values())] for row in shown]
    table = html_table(_payback_finding(payback), [payback.attribute, *columns], rows)
    return table + paragraph(_payback_note(payback, forecast))


def _payback_columns(payback: Payback) -> dict[str, list[str]]:
    """Return the cells of each column by its heading: so far, then by each horizon."""
    sums = payback.sums
    has_spend = bool(sums["roas"].notna().any())
    columns = {"users": [amount(users) for users in sums["users"]]}
    if has_spend:
        columns["spend"] = [amount(spend) for spend in sums["spend"]]
    columns["revenue so far"] = [amount(revenue) for revenue in sums["revenue"]]
    if has_spend:
        columns["ROAS so far"] = [percent(roas) for roas in sums["roas"]]

    for horizon in payback.horizons:
        name = f"ROAS D{horizon}" if has_spend else f"revenue by D{horizon}"
        if horizon not in payback.by_horizon:
            columns[name] = [UNKNOWN] * len(sums)
            continue
        frame = payback.by_horizon[horizon]
        columns[f"revenue by D{horizon}"] = [amount(revenue) for revenue in frame["revenue"]]
        if has_spend:
            columns[name] = [percent(roas) for roas in frame["roas"]]
        if frame["revenue_p10"].notna().any():
            quantity: Literal["roas", "revenue"] = "roas" if has_spend else "revenue"
            columns[f"80 % range D{horizon}"] = _range_cells(frame, quantity)
    return columns


def _range_cells(frame: pd.DataFrame, quantity: Literal["roas", "revenue"]) -> list[str]:
    """Word the ends of each interval of a frame of `Payback`, with a star where borrowed."""
    word = percent if quantity == "roas" else amount
    bounds = zip(
        frame[f"{quantity}_p10"], frame[f"{quantity}_p90"], frame["is_borrowed"], strict=True
    )
    return [
        f"{word(low)} to {word(high)}{' *' if is_borrowed else ''}" if high == high else UNKNOWN
        for low, high, is_borrowed in bounds
    ]


def _payback_finding(payback: Payback) -> str:
    """Say how many earn back their spend, or else which is the largest, or the revenue alone.

    By the last horizon that the data support.
    """
    horizon = payback.last_horizon
    if horizon is None:
        return f"{_describe_reach(payback)}: nobody can say yet who earns back the spend"

    by_horizon = f"by D{horizon}"
    if horizon < MAX_AGE:
        by_horizon += ", as far as the data reach"
    sums = payback.sums
    if len(sums) == 1:
        earned = amount(sums["revenue"].iloc[-1])
        revenue = amount(payback.by_horizon[horizon]["revenue"].iloc[-1])
        return f"{revenue} of revenue {by_horizon}, of which {earned} has come"

    value_count = len(payback.known_roas)
    if not value_count:
        share = percent(payback.largest_share)
        return f"{sums.index[0]} is the largest, with {share} of the revenue {by_horizon}"
    earning_back = payback.earning_back_count
    verb = (
        "is forecast to earn back its" if earning_back == 1 else "are forecast to earn back their"
    )
    return f"{earning_back} of {value_count} {verb} spend {by_horizon}"


def _payback_note(payback: Payback, forecast: Forecast) -> str:
    """Say over which cohorts columns are summed, how many rows are shown, how far data reach."""
    cohorts = count_with_noun(payback.cohort_count, "cohort")
    sentences = [
        f"As of {forecast.curves.origin}, in the currency of the data. Every column sums the same "
        f"{cohorts}: those younger than D{payback.horizons[0]}, acquired since {payback.first_day}."
    ]
    if payback.older_count:
        older = count_with_noun(payback.older_count, "older cohort")
        sentences.append(f"The {older} are in the rollup.csv that predict.py writes.")
    if payback.sums["roas"].notna().any():
        sentences.append("ROAS is revenue over spend, of cohorts whose spend is known.")
    if any(frame["is_borrowed"].any() for frame in payback.by_horizon.values()):
        sentences.append(
            "* Too few past forecasts of this horizon have come true to check the range: it is as "
            "wide as that of a shorter one."
        )

    value_count = len(payback.sums) - 1
    if value_count > ROLLUP_ROWS:
        sentences.append(f"Shown are the {ROLLUP_ROWS} largest of {value_count}.")
    if payback.last_supported_age < max(payback.horizons):
        sentences.append(
            f"{_describe_reach(payback)}, so nothing can be said of what lies beyond ({UNKNOWN}): "
            "it may well be more."
        )
    return " ".join(sentences)


def _describe_reach(payback: Payback) -> str:
    """Say how far the data reach."""
    few_cohorts = f"Fewer than {MIN_COHORTS_PER_AGE} cohorts"
    if payback.last_supported_age < 0:
        return f"{few_cohorts} have a complete day"
    return f"{few_cohorts} have got beyond D{payback.last_supported_age}"


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
    terms = ["blend and correction" if term == "correction" else term for term in TERMS]
    head = ["cohort", "its segment", *terms, f"D{explanation.horizon}"]
    table = html_table(f"The {subjects} the furthest from usual, in revenue", head, rows)
    note = paragraph("Revenue per user, which adds up from the left to the right.")
    return f"{table}{note}<dl>{''.join(reasons)}</dl>"
