"""Purchases in the layouts of shops, recognised by their columns: see configs/data/import."""

from collections.abc import Iterable

from ltvnet.data.importers.headings import normal_name
from ltvnet.data.importers.table_format import read_preset_configs


def recognise_purchases(columns: Iterable[str]) -> str | None:
    """Return the name of the config of data that reads purchases with such columns, if any does.

    Of several the one that asks for the most columns.

    >>> recognise_purchases(["user_pseudo_id", "event_name", "event_timestamp", "platform"])
    'ga4'
    """
    present = {normal_name(column) for column in columns}
    matches = {
        name: [normal_name(column) for column in config["match"]]
        for name, config in read_preset_configs().items()
        if config["kind"] == "purchases"
    }
    fitting = {name: columns for name, columns in matches.items() if present.issuperset(columns)}
    return max(fitting, key=lambda name: len(fitting[name]), default=None)
