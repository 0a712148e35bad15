"""Cohorts in exports as people have them: six that new users brought, and neighbours of each.

Every one of them holds simulated cohorts exact to the bit.
"""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from factories.exports import (
    EXPORT_DAY,
    Table,
    age_columns,
    attribute_columns,
    exact_cohorts,
    first_days,
    known_cells,
    number_texts,
    repeat,
    revenue_totals,
)
from factories.workbooks import Cell, write_workbook
from ltvnet.data.arrays import Floats
from ltvnet.data.curves import Curves

ATTRIBUTES = ("Apps", "Source", "Campaign", "Country", "OS")
AGES = tuple(range(181))
WON = 16384.0
"""Won of a unit of money: by it revenue per user becomes whole."""

KOREAN = {"Apps": "앱", "Source": "매체", "Campaign": "캠페인", "Country": "국가", "OS": "OS"}


def cohorts(*, weekly: bool = False) -> Curves:
    """The cohorts to write."""
    return exact_cohorts(ATTRIBUTES, weekly=weekly)


def grouped(number: float, thousands: str = ",", decimal: str = ".", digits: int = 0) -> str:
    """A number with thousands separators, "" where unknown."""
    if np.isnan(number):
        return ""
    text = f"{number:,.{digits}f}"
    assert float(text.replace(",", "")) == number, f"{number} needs more digits than {digits}"
    return text.translate({ord(","): thousands, ord("."): decimal})


def money_texts(money: Floats, sign: str, digits: int = 0) -> list[str]:
    """Amounts of money with a sign before them, "" where unknown."""
    return [sign + text if text else "" for text in (grouped(m, digits=digits) for m in money)]


def write_text(table: Table, path: Path, encoding: str = "utf-8", separator: str = ",") -> Path:
    """Write cells as text of an encoding and a separator."""
    text = pd.DataFrame(table).to_csv(index=False, sep=separator)
    path.write_bytes(text.encode(encoding))
    return path


def korean_table(curves: Curves, sign: str = "₩") -> Table:
    """Export A: Korean headings, won with sign and separators, ages D0 to D180, a row of sums."""
    spend = curves.spend * WON
    columns: Table = {
        "날짜": first_days(curves),
        **attribute_columns(curves, **KOREAN),
        "설치수": [grouped(users) for users in curves.users],
        "비용": money_texts(spend, sign),
    }
    sums = {"날짜": "합계", "설치수": grouped(curves.users.sum())}
    sums["비용"] = sign + grouped(np.nansum(spend))
    for age in AGES:
        columns[f"D{age}"] = money_texts(curves.values[:, age] * WON, sign)
    return {name: [*cells, sums.get(name, "")] for name, cells in columns.items()}


def korean(folder: Path, sign: str = "￦") -> Path:
    """Export A as it was: cp949, which has the won sign in full width only."""
    return write_text(korean_table(cohorts(), sign), folder / f"지표_{EXPORT_DAY}.csv", "cp949")


def korean_with_backslash(folder: Path) -> Path:
    """A neighbour of A: the won sign as Korean Windows keeps it, where a backslash looks so."""
    return korean(folder, "\\")


def korean_in_utf8(folder: Path) -> Path:
    """A neighbour of A: the won sign itself, in UTF-8 with a byte order mark."""
    return write_text(korean_table(cohorts()), folder / f"지표_{EXPORT_DAY}.csv", "utf-8-sig")


def korean_in_utf16(folder: Path) -> Path:
    """A neighbour of A: text of Excel, tabs in UTF-16, 원 behind the money."""
    table = korean_table(cohorts(), sign="")
    won = [f"{cell}원" if cell else "" for cell in table["비용"]]
    return write_text(table | {"비용": won}, folder / f"지표_{EXPORT_DAY}.csv", "utf-16", "\t")


def european(folder: Path, *, separator: str = ";", encoding: str = "utf-8") -> Path:
    """Export B: semicolons, decimal commas, euros, 2022/01/03 and empty rows."""
    curves = cohorts()
    table: Table = {
        "Date": [day.replace("-", "/") for day in first_days(curves)],
        **{name: [str(text) for text in curves.attributes[name]] for name in ATTRIBUTES},
        "Users": [grouped(users, ".", ",") for users in curves.users],
        "Spend": [
            f"{text} €" if text else ""
            for text in (grouped(spend, ".", ",", digits=2) for spend in curves.spend)
        ],
    }
    for age in AGES:
        values = number_texts(curves.values[:, age])
        table[f"day_{age}"] = [value.replace(".", ",") for value in values]
    frame = pd.DataFrame(table)
    empty = pd.DataFrame("", index=range(3), columns=frame.columns)
    rows = pd.concat([frame[:20], empty[:1], frame[20:], empty[1:]])
    path = folder / f"export_{EXPORT_DAY}.csv"
    path.write_bytes(rows.to_csv(index=False, sep=separator).encode(encoding))
    return path


def european_in_latin(folder: Path) -> Path:
    """A neighbour of B: tabs, and the euro sign as Windows writes it."""
    return european(folder, separator="\t", encoding="cp1252")


def workbook_rows(curves: Curves) -> list[list[Cell]]:
    """Rows of a sheet: headings, then dates, text and numbers."""
    headings: list[Cell] = ["Date", *ATTRIBUTES, "Users", "Spend", *(f"day_{age}" for age in AGES)]
    rows = [headings]
    for row, start in enumerate(curves.start):
        day: datetime.date = start.astype(object)
        text = [str(curves.attributes[name][row]) for name in ATTRIBUTES]
        numbers = [curves.users[row], curves.spend[row], *curves.values[row, AGES]]
        cells = [None if np.isnan(number) else float(number) for number in numbers]
        rows.append([day, *text, *cells])
    return rows


def workbook(folder: Path) -> Path:
    """Export C: a workbook with a title above the table."""
    path = folder / f"report_{EXPORT_DAY}.xlsx"
    title: list[list[Cell]] = [["LTV by campaign"], []]
    write_workbook(path, {"Report": [*title, *workbook_rows(cohorts())]})
    return path


def workbook_with_hidden_sheet(folder: Path) -> Path:
    """A neighbour of C: the table is on the second sheet, the first one is hidden."""
    path = folder / f"report_{EXPORT_DAY}.xlsx"
    lists: list[list[Cell]] = [["Lists"], ["US"], ["NA"]]
    sheets = {"Lists": lists, "LTV": workbook_rows(cohorts())}
    write_workbook(path, sheets, hidden=["Lists"])
    return path


def appsflyer_pivot(folder: Path) -> Path:
    """Export D: names of AppsFlyer in a pivot of someone's own."""
    curves = cohorts()
    names = {"Source": "media_source", "Campaign": "campaign", "Country": "geo", "Apps": "app_id"}
    table = {
        **attribute_columns(curves, **names, OS="platform"),
        "cohort_day": first_days(curves),
        "installs": number_texts(curves.users),
        "cost": number_texts(curves.spend),
        **age_columns("ltv_day_{}", curves.values, AGES),
    }
    return write_text(table, folder / f"af_{EXPORT_DAY}.csv")


def appsflyer_pivot_in_capitals(folder: Path) -> Path:
    """A neighbour of D: headings in capitals with blanks, ages as `LTV D7`."""
    curves = cohorts()
    names = {"Source": "MEDIA SOURCE", "Campaign": "CAMPAIGN", "Country": "GEO", "Apps": "APP ID"}
    table = {
        **attribute_columns(curves, **names, OS="PLATFORM"),
        "COHORT DAY": first_days(curves),
        "INSTALLS": number_texts(curves.users),
        "COST": number_texts(curves.spend),
        **age_columns("LTV D{}", curves.values, AGES),
    }
    return write_text(table, folder / f"af_{EXPORT_DAY}.csv")


def adjust_by_day(folder: Path) -> Path:
    """Export E: a row a cohort and day after the install, money of the cohort so far."""
    curves = cohorts()
    cohort, age = known_cells(curves)
    names = {"Apps": "app", "OS": "os_name", "Source": "network", "Campaign": "campaign"}
    by_cohort = {
        "day": first_days(curves),
        **attribute_columns(curves, **names, Country="country"),
        "installs": number_texts(curves.users),
        "cost": number_texts(curves.spend),
    }
    table = {
        **{name: repeat(column, cohort) for name, column in by_cohort.items()},
        "days_after_install": [str(number) for number in age],
        "revenue_total": number_texts(revenue_totals(curves)[cohort, age]),
    }
    return write_text(table, folder / f"adjust_{EXPORT_DAY}.csv")


def totals_by_week(folder: Path, week: str = "{year}-W{week:02d}") -> Path:
    """Export F: totals in dollars by ISO week with shares of return, and a row of sums."""
    curves = cohorts(weekly=True)
    weeks = [start.astype(object).isocalendar() for start in curves.start]
    totals = revenue_totals(curves)
    return_d7 = totals[:, 7] / curves.spend
    spend = money_texts(curves.spend, "$", digits=2)
    columns: Table = {
        "Week": [week.format(year=name.year, week=name.week) for name in weeks],
        **{name: [str(text) for text in curves.attributes[name]] for name in ATTRIBUTES},
        "Installs": [grouped(users) for users in curves.users],
        "Cost": spend,
    }
    sums = {"Week": "Total", "Installs": grouped(curves.users.sum())}
    sums["Cost"] = "$" + grouped(np.nansum(curves.spend), digits=2)
    for age in AGES:
        columns[f"Revenue D{age}"] = money_texts(totals[:, age], "$", digits=2)
    columns["ROAS D7"] = ["" if np.isnan(share) else f"{share:.1%}" for share in return_d7]
    table = {name: [*cells, sums.get(name, "")] for name, cells in columns.items()}
    return write_text(table, folder / f"weekly_{EXPORT_DAY}.csv")


def totals_by_short_week(folder: Path) -> Path:
    """A neighbour of F: weeks as 2022W1."""
    return totals_by_week(folder, "{year}W{week}")


@dataclass(frozen=True)
class OddExport:
    """A function that writes an export into a folder, and how it differs from `cohorts()`.

    `money` in it for one in the cohorts; whether cohorts are `weekly`.
    """

    write: Callable[[Path], Path]
    money: float = 1.0
    weekly: bool = False

    def cohorts(self) -> Curves:
        """The cohorts in it."""
        curves = cohorts(weekly=self.weekly)
        scaled = curves.with_values(curves.values * self.money)
        return replace(scaled, spend=curves.spend * self.money)


ODD_EXPORTS: dict[str, OddExport] = {
    "A": OddExport(korean, money=WON),
    "A with a backslash": OddExport(korean_with_backslash, money=WON),
    "A in UTF-8": OddExport(korean_in_utf8, money=WON),
    "A in UTF-16": OddExport(korean_in_utf16, money=WON),
    "B": OddExport(european),
    "B in cp1252 with tabs": OddExport(european_in_latin),
    "C": OddExport(workbook),
    "C with a hidden sheet": OddExport(workbook_with_hidden_sheet),
    "D": OddExport(appsflyer_pivot),
    "D in capitals": OddExport(appsflyer_pivot_in_capitals),
    "E": OddExport(adjust_by_day),
    "F": OddExport(totals_by_week, weekly=True),
    "F with short weeks": OddExport(totals_by_short_week, weekly=True),
}
"""The exports by their letters in the table that new users left."""
