"""What advertising cost, as networks export it, for the spend of simulated cohorts.

Of each cohort every day has a row or more, and a campaign of which there is no cohort has one too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from factories.exports import EXPORT_DAY, Table, exact_cohorts, number_text, quarters
from ltvnet.data.curves import Curves

ATTRIBUTES = ("Campaign", "Country")
STRAY_CAMPAIGN = "brand"
STRAY_SPEND = 1000.0
"""A campaign without a cohort, and what it cost."""


@dataclass(frozen=True)
class CostRow:
    """What a campaign cost on a day in a country."""

    day: str
    campaign: str
    country: str
    spend: float

    @property
    def halves(self) -> tuple[float, float]:
        """The spend in two parts, as rows by device have it."""
        first = float(quarters(np.array(self.spend / 2)))
        return first, self.spend - first


def advertised_cohorts(*, weekly: bool = False) -> Curves:
    """The cohorts of which the files tell the spend."""
    return exact_cohorts(ATTRIBUTES, weekly=weekly)


def cost_rows(curves: Curves) -> list[CostRow]:
    """Rows that add up to the spend of the cohorts, none where that is unknown."""
    rows = [CostRow(str(curves.start.min()), STRAY_CAMPAIGN, "US", STRAY_SPEND)]
    for cohort, spend in enumerate(curves.spend):
        if np.isnan(spend):
            continue
        campaign = str(curves.attributes["Campaign"][cohort])
        country = str(curves.attributes["Country"][cohort])
        days = np.arange(curves.start[cohort], curves.end[cohort] + 1)
        share = float(quarters(np.array(spend / len(days))))
        for number, day in enumerate(days):
            is_last = number == len(days) - 1
            money = spend - share * (len(days) - 1) if is_last else share
            rows.append(CostRow(str(day), campaign, country, money))
    return rows


def by_device(rows: list[CostRow]) -> list[CostRow]:
    """Two rows for each."""
    return [
        CostRow(row.day, row.campaign, row.country, part) for row in rows for part in row.halves
    ]


def micros(spend: float) -> str:
    """Money in millionths."""
    return number_text(spend * 1e6)


def google(rows: list[CostRow]) -> Table:
    """Google's API: micros, rows by device."""
    rows = by_device(rows)
    return {
        "date": [row.day for row in rows],
        "campaign_name": [row.campaign for row in rows],
        "country": [row.country for row in rows],
        "cost_micros": [micros(row.spend) for row in rows],
        "clicks": ["3"] * len(rows),
        "impressions": ["100"] * len(rows),
        "conversions": ["1"] * len(rows),
        "device": ["MOBILE", "DESKTOP"] * (len(rows) // 2),
    }


def meta(rows: list[CostRow]) -> Table:
    """Meta's page: a period with the same first and last day, the currency in the heading."""
    return {
        "Reporting starts": [row.day for row in rows],
        "Reporting ends": [row.day for row in rows],
        "Campaign name": [row.campaign for row in rows],
        "Country": [row.country for row in rows],
        "Amount spent (USD)": [f"{row.spend:,.2f}" for row in rows],
        "Impressions": ["1,000"] * len(rows),
    }


def meta_in_french(rows: list[CostRow]) -> Table:
    """Meta's page in French; to be written with semicolons."""
    amounts = [f"{row.spend:,.2f}" for row in rows]
    swapped = [text.translate({ord(","): ".", ord("."): ","}) for text in amounts]
    return {
        "Début des rapports": [row.day for row in rows],
        "Fin des rapports": [row.day for row in rows],
        "Nom de la campagne": [row.campaign for row in rows],
        "Pays": [row.country for row in rows],
        "Montant dépensé (EUR)": swapped,
    }


def apple(rows: list[CostRow]) -> Table:
    """Apple's API: an amount beside its currency."""
    return {
        "date": [row.day for row in rows],
        "id": ["973923054"] * len(rows),
        "campaign_name": [row.campaign for row in rows],
        "country_or_region": [row.country for row in rows],
        "local_spend_amount": [number_text(row.spend) for row in rows],
        "local_spend_currency": ["USD"] * len(rows),
        "taps": ["5"] * len(rows),
        "new_downloads": ["2"] * len(rows),
        "redownloads": ["1"] * len(rows),
    }


def tiktok(rows: list[CostRow]) -> Table:
    """TikTok's API by the hour, two of them with spend."""
    rows = by_device(rows)
    hours = ["09", "21"] * (len(rows) // 2)
    return {
        "stat_time_hour": [
            f"{row.day} {hour}:00:00" for row, hour in zip(rows, hours, strict=True)
        ],
        "campaign_name": [row.campaign for row in rows],
        "country_code": [row.country for row in rows],
        "spend": [number_text(row.spend) for row in rows],
        "conversion": ["-"] * len(rows),
        "real_time_conversion": ["7"] * len(rows),
    }


def microsoft(rows: list[CostRow]) -> Table:
    """Microsoft's reports: rows by device."""
    rows = by_device(rows)
    return {
        "date": [row.day for row in rows],
        "campaign_id": [row.campaign for row in rows],
        "country": [row.country for row in rows],
        "currency_code": ["USD"] * len(rows),
        "device_type": ["Smartphone", "Computer"] * (len(rows) // 2),
        "network": ["Bing and Yahoo! search"] * len(rows),
        "bid_match_type": ["Broad"] * len(rows),
        "spend": [number_text(row.spend) for row in rows],
    }


def snapchat(rows: list[CostRow]) -> Table:
    """Snapchat's API: micros in a column of the same name as others have for money."""
    return {
        "date": [row.day for row in rows],
        "campaign_id": [row.campaign for row in rows],
        "country": [row.country for row in rows],
        "impressions": ["1000"] * len(rows),
        "swipes": ["30"] * len(rows),
        "spend": [micros(row.spend) for row in rows],
    }


def someones_own(rows: list[CostRow]) -> Table:
    """A table of someone's own."""
    return {
        "Date": [row.day for row in rows],
        "Campaign": [row.campaign for row in rows],
        "Country": [row.country for row in rows],
        "Cost": [number_text(row.spend) for row in rows],
    }


@dataclass(frozen=True)
class CostLayout:
    """A layout of cost: the preset by which it is to be recognised, and the currency in it."""

    preset: str
    table: Callable[[list[CostRow]], Table]
    currency: str = ""
    separator: str = ","

    def write(self, folder: Path, curves: Curves) -> Path:
        """Write the spend of cohorts as CSV."""
        path = folder / f"cost_{EXPORT_DAY}.csv"
        frame = pd.DataFrame(self.table(cost_rows(curves)))
        frame.to_csv(path, index=False, sep=self.separator)
        return path


COST_LAYOUTS = {
    "google": CostLayout("cost_google", google),
    "meta": CostLayout("cost_meta", meta, "USD"),
    "meta in French": CostLayout("cost_meta", meta_in_french, "EUR", ";"),
    "apple": CostLayout("cost_apple", apple, "USD"),
    "tiktok": CostLayout("cost_tiktok", tiktok),
    "microsoft": CostLayout("cost_microsoft", microsoft, "USD"),
    "snapchat": CostLayout("cost_snapchat", snapchat),
    "own": CostLayout("cost", someones_own),
}
"""Every layout of cost by its name."""


def write_google_page(folder: Path, curves: Curves) -> Path:
    """Write the table of Google's page: titles, tabs in UTF-16, a row of totals at the end."""
    rows = cost_rows(curves)
    total = sum(row.spend for row in rows)
    lines = ["Campaign report", "January 3, 2022 - October 30, 2022"]
    lines.append("Day\tCampaign\tCountry/Territory (User location)\tCurrency code\tCost")
    for row in rows:
        lines.append(f"{row.day}\t{row.campaign}\t{row.country}\tUSD\t{row.spend:,.2f}")
    lines.append(f"Total: Account\t --\t --\tUSD\t{total:,.2f}")
    path = folder / f"cost_{EXPORT_DAY}.csv"
    path.write_bytes(("\n".join(lines) + "\n").encode("utf-16"))
    return path
