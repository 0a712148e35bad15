"""Stories that a page is written of."""

from ltvnet.backtesting.scores import BacktestRecord
from ltvnet.correction.stages import LearnedStages
from ltvnet.forecasting.forecast import Forecast
from ltvnet.reports.model_page import ReportContent


def make_story(*records: BacktestRecord, forecast: Forecast | None = None) -> ReportContent:
    """A net scored at 7 and 30 days, trained for two epochs, not corrected."""
    losses = {"net": {"training": [3.0, 2.0], "validation": [3.5, 2.5]}}
    notes = ["cut by date, not by vintage"]
    return ReportContent(
        "net, as of <day>", records, (7, 30), LearnedStages.neutral(), losses, forecast, notes
    )
