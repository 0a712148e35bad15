"""Purchases as shops, payment services and analytics export them, and as plain lines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from factories.exports import Table, write_table

FIRST_DAY = np.datetime64("2024-01-01")


@dataclass(frozen=True)
class Purchase:
    """One payment: of whom, when (UTC), how much of it was refunded later, and from where.

    `counts`: it was paid, and is no test. `first_seen` the day on which its customer came.
    """

    number: int
    customer: str
    moment: np.datetime64
    amount: float
    refunded: float
    country: str
    counts: bool
    first_seen: np.datetime64


def make_purchases(customers: int = 60, seed: int = 0) -> list[Purchase]:
    """Draw purchases of some customers over half a year, a part of them failed."""
    rng = np.random.default_rng(seed)
    purchases: list[Purchase] = []
    for person in range(customers):
        first_seen = FIRST_DAY + int(rng.integers(0, 90))
        for _ in range(int(rng.integers(1, 6))):
            day = first_seen + int(rng.integers(0, 80))
            amount = float(rng.integers(1, 400)) / 4
            purchases.append(
                Purchase(
                    number=1001 + len(purchases),
                    customer=f"{person:05d}",
                    moment=day.astype("datetime64[s]") + int(rng.integers(0, 86_400)),
                    amount=amount,
                    refunded=amount if rng.random() < 0.1 else 0.0,
                    country=("US", "NA")[person % 2],
                    counts=bool(rng.random() < 0.85),
                    first_seen=first_seen,
                )
            )
    return purchases


def moment_text(purchase: Purchase) -> str:
    """Moment of a purchase as 2024-01-31 12:00:00."""
    return str(purchase.moment).replace("T", " ")


def cents(amount: float) -> str:
    """An amount with two decimals."""
    return f"{amount:.2f}"


def email(purchase: Purchase) -> str:
    """Address of the customer of a purchase."""
    return f"c{purchase.customer}@example.com"


def plain(purchases: Sequence[Purchase]) -> Table:
    """The purchases that count, by the default names."""
    paid = [purchase for purchase in purchases if purchase.counts]
    return {
        "customer_id": [purchase.customer for purchase in paid],
        "date": [moment_text(purchase) for purchase in paid],
        "amount": [cents(purchase.amount) for purchase in paid],
        "country": [purchase.country for purchase in paid],
    }


def plain_users(purchases: Sequence[Purchase]) -> Table:
    """Everyone of whom there is a purchase, failed or not, with the day of their coming."""
    people = {purchase.customer: purchase for purchase in purchases}
    return {
        "customer_id": list(people),
        "joined": [str(purchase.first_seen) for purchase in people.values()],
        "country": [purchase.country for purchase in people.values()],
    }


def shopify(purchases: Sequence[Purchase]) -> Table:
    """Shopify's admin: lines of items, the order's columns on the first of them only."""
    table: Table = {name: [] for name in SHOPIFY_COLUMNS}
    for purchase in purchases:
        order = {
            "Financial Status": "paid" if purchase.counts else "voided",
            "Paid at": f"{moment_text(purchase)} +0000" if purchase.counts else "",
            "Currency": "USD",
            "Subtotal": cents(purchase.amount - 1),
            "Shipping": "1.00",
            "Taxes": "0.00",
            "Total": cents(purchase.amount),
            "Discount Amount": "0.00",
            "Refunded Amount": cents(purchase.refunded),
            "Shipping Country": purchase.country,
            "Id": str(5_000_000_000_000 + purchase.number),
        }
        if purchase.refunded and purchase.counts:
            order["Financial Status"] = "refunded"
        always = {
            "Name": f"#{purchase.number}",
            "Email": email(purchase),
            "Created at": f"{moment_text(purchase)} +0000",
            "Lineitem quantity": "1",
            "Lineitem name": "Tea, green\nloose",
        }
        for line in range(1 + purchase.number % 3):
            cells = always | (order if line == 0 else {})
            for name in SHOPIFY_COLUMNS:
                table[name].append(cells.get(name, ""))
    return table


SHOPIFY_COLUMNS = (
    "Name",
    "Email",
    "Financial Status",
    "Paid at",
    "Currency",
    "Subtotal",
    "Shipping",
    "Taxes",
    "Total",
    "Discount Amount",
    "Created at",
    "Lineitem quantity",
    "Lineitem name",
    "Refunded Amount",
    "Shipping Country",
    "Id",
)


def shopify_api(purchases: Sequence[Purchase]) -> Table:
    """Shopify's API: a line an order; of those that do not count, some are tests."""
    is_test = [not purchase.counts and purchase.number % 2 == 0 for purchase in purchases]
    return {
        "id": [str(5_000_000_000_000 + purchase.number) for purchase in purchases],
        "customer_id": [purchase.customer for purchase in purchases],
        "processed_at": [moment_text(purchase) for purchase in purchases],
        "currency": ["USD"] * len(purchases),
        "total_price": [cents(purchase.amount) for purchase in purchases],
        "financial_status": [
            "paid" if purchase.counts or test else "pending"
            for purchase, test in zip(purchases, is_test, strict=True)
        ],
        "cancelled_at": [""] * len(purchases),
        "test": ["true" if test else "false" for test in is_test],
        "country": [purchase.country for purchase in purchases],
    }


def stripe(purchases: Sequence[Purchase]) -> Table:
    """Stripe's dashboard: major units, in the currency of the customer and converted."""
    return {
        "id": [f"ch_{purchase.number}" for purchase in purchases],
        "Created date (UTC)": [moment_text(purchase) for purchase in purchases],
        "Amount": [cents(purchase.amount * 1350) for purchase in purchases],
        "Amount Refunded": [cents(purchase.refunded * 1350) for purchase in purchases],
        "Currency": ["krw"] * len(purchases),
        "Converted Amount": [cents(purchase.amount) for purchase in purchases],
        "Converted Amount Refunded": [cents(purchase.refunded) for purchase in purchases],
        "Converted Currency": ["usd"] * len(purchases),
        "Fee": ["0.30"] * len(purchases),
        "Customer ID": [purchase.customer for purchase in purchases],
        "Status": [
            ("Refunded" if purchase.refunded else "Paid") if purchase.counts else "Failed"
            for purchase in purchases
        ],
        "Captured": [str(purchase.counts).lower() for purchase in purchases],
        "country": [purchase.country for purchase in purchases],
    }


def stripe_api(purchases: Sequence[Purchase]) -> Table:
    """Stripe's API: minor units."""
    return {
        "id": [f"ch_{purchase.number}" for purchase in purchases],
        "amount": [f"{purchase.amount * 100:.0f}" for purchase in purchases],
        "amount_refunded": [f"{purchase.refunded * 100:.0f}" for purchase in purchases],
        "created": [moment_text(purchase) for purchase in purchases],
        "currency": ["usd"] * len(purchases),
        "customer_id": [purchase.customer for purchase in purchases],
        "paid": [str(purchase.counts).lower() for purchase in purchases],
        "status": ["succeeded" if purchase.counts else "failed" for purchase in purchases],
        "captured": ["true"] * len(purchases),
        "country": [purchase.country for purchase in purchases],
    }


def woocommerce(purchases: Sequence[Purchase]) -> Table:
    """WooCommerce: every second customer is a guest."""
    is_guest = [int(purchase.customer) % 2 for purchase in purchases]
    return {
        "id": [str(purchase.number) for purchase in purchases],
        "customer_id": [
            "0" if guest else str(int(purchase.customer) + 1)
            for purchase, guest in zip(purchases, is_guest, strict=True)
        ],
        "billing.email": [email(purchase).title() for purchase in purchases],
        "date_created_gmt": [str(purchase.moment) for purchase in purchases],
        "date_paid_gmt": [str(purchase.moment) for purchase in purchases],
        "status": ["completed" if purchase.counts else "failed" for purchase in purchases],
        "currency": ["USD"] * len(purchases),
        "total": [cents(purchase.amount) for purchase in purchases],
        "total_tax": ["0.00"] * len(purchases),
        "country": [purchase.country for purchase in purchases],
    }


def revenuecat(purchases: Sequence[Purchase]) -> Table:
    """RevenueCat: of every fourth transaction an older line too, and lines of the sandbox.

    What does not count is a trial.
    """
    lines: list[tuple[Purchase, float, str, bool]] = []
    for purchase in purchases:
        lines.append((purchase, purchase.amount, "2024-08-02 00:00:00", False))
        if purchase.number % 4 == 0:
            lines.append((purchase, purchase.amount + 5, "2024-08-01 00:00:00", False))
        if purchase.number % 5 == 0:
            tester = replace(purchase, number=purchase.number + 50_000, customer="tester")
            lines.append((tester, 99.0, "2024-08-02 00:00:00", True))
    return {
        "rc_original_app_user_id": [purchase.customer for purchase, *_ in lines],
        "country": [purchase.country for purchase, *_ in lines],
        "product_identifier": ["monthly"] * len(lines),
        "start_time": [moment_text(purchase) for purchase, *_ in lines],
        "store": ["app_store"] * len(lines),
        "is_sandbox": [str(sandbox).lower() for *_, sandbox in lines],
        "is_trial_period": [str(not purchase.counts).lower() for purchase, *_ in lines],
        "renewal_number": ["1"] * len(lines),
        "price_in_usd": [
            cents(0.0 if purchase.refunded else amount) for purchase, amount, *_ in lines
        ],
        "purchase_price_in_usd": [cents(amount) for _, amount, *_ in lines],
        "refunded_at": ["2024-08-01 00:00:00" if line[0].refunded else "" for line in lines],
        "first_seen_time": [f"{purchase.first_seen} 00:00:00" for purchase, *_ in lines],
        "store_transaction_id": [str(purchase.number) for purchase, *_ in lines],
        "updated_at": [updated for _, _, updated, _ in lines],
    }


def ga4(purchases: Sequence[Purchase]) -> Table:
    """GA4: other events beside purchases, some of which stand there twice.

    What does not count is an event without revenue.
    """
    lines = [*purchases, *(purchase for purchase in purchases if purchase.number % 3 == 0)]

    def microseconds(moment: np.datetime64) -> str:
        return str(moment.astype("datetime64[us]").astype(np.int64))

    return {
        "event_date": [str(line.moment)[:10].replace("-", "") for line in lines],
        "event_timestamp": [microseconds(line.moment) for line in lines],
        "event_name": ["purchase" if line.counts else "session_start" for line in lines],
        "user_pseudo_id": [line.customer for line in lines],
        "user_first_touch_timestamp": [microseconds(line.first_seen) for line in lines],
        "event_value_in_usd": [cents(line.amount) if line.counts else "" for line in lines],
        "country": [line.country for line in lines],
        "platform": ["ANDROID"] * len(lines),
    }


@dataclass(frozen=True)
class PurchaseLayout:
    """A layout of purchases: the function that writes it, and what of it tells the cohorts.

    `country`: the column that holds the customer's country; `has_users`: it says when customers
    came, so that those without a purchase that counts are in it too.
    """

    table: Callable[[Sequence[Purchase]], Table]
    country: str = "country"
    has_users: bool = False

    def write(self, purchases: Sequence[Purchase], path: Path) -> None:
        """Write purchases as CSV."""
        write_table(self.table(purchases), path)


PURCHASE_LAYOUTS = {
    "shopify": PurchaseLayout(shopify, country="Shipping Country"),
    "shopify_api": PurchaseLayout(shopify_api),
    "stripe": PurchaseLayout(stripe),
    "stripe_api": PurchaseLayout(stripe_api),
    "woocommerce": PurchaseLayout(woocommerce),
    "revenuecat": PurchaseLayout(revenuecat, has_users=True),
    "ga4": PurchaseLayout(ga4, has_users=True),
}
"""Every layout of purchases, by the name of its preset in configs/data."""
