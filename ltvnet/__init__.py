"""ltvnet forecasts the lifetime value of marketing cohorts.

Names are imported on first use, so that `import ltvnet` stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltvnet.corrected import Corrected
    from ltvnet.curves import NODES, Curves, History
    from ltvnet.forecasting import Forecast, Forecaster, create
    from ltvnet.table import Files, read

_HOME = {
    "NODES": "ltvnet.curves",
    "Corrected": "ltvnet.corrected",
    "Curves": "ltvnet.curves",
    "Files": "ltvnet.table",
    "Forecast": "ltvnet.forecasting",
    "Forecaster": "ltvnet.forecasting",
    "History": "ltvnet.curves",
    "create": "ltvnet.forecasting",
    "read": "ltvnet.table",
}

__all__ = [
    "NODES",
    "Corrected",
    "Curves",
    "Files",
    "Forecast",
    "Forecaster",
    "History",
    "create",
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
