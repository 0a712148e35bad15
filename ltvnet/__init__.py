"""ltvnet forecasts the lifetime value of marketing cohorts.

Four lines: `history = ltvnet.read("Files")`, `model = ltvnet.model("best")`,
`model.fit(history, "2025-02-10")`, `forecast = model.predict(history.as_of("2025-02-10"))`.

Names are imported on first use, so that `import ltvnet` stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltvnet.correction.corrected import Corrected
    from ltvnet.data.cohort_tables import Files
    from ltvnet.data.curves import NODES, Curves, History
    from ltvnet.data.frames import read
    from ltvnet.data.importers.table_format import TableFormat
    from ltvnet.forecasting.forecast import Forecast
    from ltvnet.forecasting.forecaster import Forecaster
    from ltvnet.operations.configuration import model

_HOME = {
    "NODES": "ltvnet.data.curves",
    "Corrected": "ltvnet.correction.corrected",
    "Curves": "ltvnet.data.curves",
    "Files": "ltvnet.data.cohort_tables",
    "Forecast": "ltvnet.forecasting.forecast",
    "Forecaster": "ltvnet.forecasting.forecaster",
    "History": "ltvnet.data.curves",
    "TableFormat": "ltvnet.data.importers.table_format",
    "model": "ltvnet.operations.configuration",
    "read": "ltvnet.data.frames",
}

__all__ = [
    "NODES",
    "Corrected",
    "Curves",
    "Files",
    "Forecast",
    "Forecaster",
    "History",
    "TableFormat",
    "model",
    "read",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 the type of a lazily imported name
    """Import a public name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module 'ltvnet' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Public names."""
    return __all__
