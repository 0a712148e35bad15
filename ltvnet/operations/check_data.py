"""Look into data without training anything: what `scripts/check.py` does."""

from dataclasses import replace
from pathlib import Path

from ltvnet.data.history_checks import InspectedHistory, inspect_history
from ltvnet.data.overview import DataOverview
from ltvnet.data.source import DataSource, Inspectable
from ltvnet.prediction import bundle
from ltvnet.prediction.compatibility import LevelComparison

ROUNDING_TOLERANCE = 1e-3
"""Relative change between snapshots that counts as rounding."""


def check_data(source: DataSource, bundle_folder: Path | None = None) -> DataOverview:
    """Look at all that is in the data of a source, beside those of a bundle where one is given.

    Raises ValueError for data that cannot be read, and for a folder that is no bundle.
    """
    inspected = _inspect(source)
    if bundle_folder is not None:
        comparison = LevelComparison.from_manifest(bundle.load(bundle_folder).manifest)
        comparison.add(inspected.curves)
        findings = [*comparison.findings("check"), *inspected.findings]
        inspected = replace(inspected, findings=tuple(findings)).with_worst_first()
    return DataOverview.from_inspected(inspected, ROUNDING_TOLERANCE)


def _inspect(source: DataSource) -> InspectedHistory:
    """Read a source with what is odd in it, refusals among it where it can tell them."""
    if isinstance(source, Inspectable):
        return source.inspect()
    return inspect_history(source.history())
