"""A net on top of the historical pattern, as a forecaster.

Shapes: N cohorts, H ages, I intervals, Q quantities (mean, p10, p50, p90).
"""

import json
import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.evidence import (
    MIN_MATURE_COHORTS,
    confidence,
    count_mature_cohorts,
    why_insufficient,
)
from ltvnet.forecasting.forecast import Band, Forecast, ForecastParts, observed_or_forecast
from ltvnet.forecasting.forecaster import State, add_prefix, strip_prefix
from ltvnet.forecasting.run_context import RunContext
from ltvnet.models.neural.cohort_tensors import CohortTensors, Tasks
from ltvnet.models.neural.covariates import CovariateConfig
from ltvnet.models.neural.input_scaling import InputScaling
from ltvnet.models.neural.nets.heads import InputSizes, TaskInputs, log_multiples
from ltvnet.models.neural.training_config import TrainingConfig, TrainingJob
from ltvnet.models.neural.validation import ValidationSet
from ltvnet.models.pattern.pattern import CurrentExpectation, Pattern
from ltvnet.storage import atomic_write

log = logging.getLogger(__name__)

NETS: Mapping[str, str] = {
    "lstm": "ltvnet.models.neural.nets.lstm:LSTM",
    "mlp": "ltvnet.models.neural.nets.mlp:MLP",
    "tide": "ltvnet.models.neural.nets.tide:CohortTiDE",
}


def inner_origin(curves: Curves) -> np.datetime64:
    """The day before which a fit stands to be validated: max(8 weeks, 15 % of history) ago."""
    history = (curves.origin - curves.end.min()).astype(int)
    return curves.origin - np.timedelta64(max(56, round(0.15 * history)), "D")


@dataclass(frozen=True)
class FittedNet:
    """A pattern, and the net that departs from it (None: the pattern alone).

    `confidence` in 0..1 scales the mean's departure; `scaling` makes the net's inputs.
    """

    pattern: Pattern
    scaling: InputScaling
    confidence: float
    net: nn.Module | None


class NeuralForecaster:
    """A net that predicts the departure from the pattern.

    `net` its kind and sizes, `pattern` the config of a Pattern, `training` the arguments of
    TrainingConfig, `covariates` those of Covariates; `context` the seed, the hardware and the
    folder for checkpoints (None: none are written; events go beside it). Raises ValueError for an
    unknown kind.
    """

    def __init__(
        self,
        *,
        net: Mapping[str, Any],
        pattern: Mapping[str, Any],
        training: Mapping[str, Any],
        covariates: Mapping[str, Any],
        context: RunContext,
    ) -> None:
        """Take the configuration; nothing is random here."""
        if net["kind"] not in NETS:
            raise ValueError(f"expected net.kind out of {', '.join(NETS)}, got {net['kind']!r}")
        self.net, self.training, self.context = dict(net), dict(training), context
        if pattern["name"] != "pattern":
            raise ValueError(f"expected pattern.name=pattern, got {pattern['name']!r}")
        self.pattern = Pattern(**{key: pattern[key] for key in pattern if key != "name"})
        self.covariates = CovariateConfig(**covariates)
        self.warm_start: FittedNet | None = None

    def fit(self, curves: Curves) -> Self:
        """Fit the pattern, find how long to train at an inner origin, train as of the origin.

        Where history is too short the pattern stands alone, said in one line of the log. Raises
        ValueError when no cohort has a complete age.
        """
        curves = curves.take(curves.observed_age >= 0)
        self.fitted = self.prepare(curves)
        if lack := why_insufficient(curves, self.fitted.scaling.unit_revenue):
            log.warning("too little data for a net (%s): the pattern forecasts alone", lack)
            return self
        epochs = self._epochs(curves) if self.warm_start is None else self.training["warm_epochs"]
        if epochs == 0:
            log.warning("no training beat the pattern at the inner origin: it forecasts alone")
            return self
        net, _ = self._trained(curves, self.fitted, None, epochs)
        self.fitted = replace(self.fitted, net=net)
        return self

    def can_start(self) -> bool:
        """Whether there is a net that another fit can start from."""
        return self.fitted.net is not None

    @classmethod
    def warm_up(cls) -> None:
        """Import what a fit needs: Lightning takes seconds."""
        import_module("ltvnet.models.neural.training")

    def start_from(self, state: State) -> None:
        """Begin the next fit with the net of a fitted forecaster, for `warm_epochs` only.

        How long to train is then not looked for: the schedule is that short.
        """
        self.warm_start = self.from_state(*state).fitted

    def prepare(self, curves: Curves) -> FittedNet:
        pattern = replace(self.pattern).fit(curves)
        scaling = InputScaling.fit(
            curves, pattern.segment_curves.median_revenue_d7, self.covariates
        )
        if self.warm_start is not None:
            scaling = replace(
                scaling, covariates=scaling.covariates.align_to(self.warm_start.scaling.covariates)
            )
        return FittedNet(pattern, scaling, confidence(curves), None)

    def _epochs(self, curves: Curves) -> int:
        """Epochs after which a fit at the inner origin forecast best; all where none can be."""
        folder = self.context.folder
        done = None if folder is None else folder / "inner" / "scores.json"
        if done is not None and done.exists():
            scores = json.loads(done.read_text())
        else:
            scores = self._inner_scores(curves)
            if done is not None:
                done.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(done) as path:
                    path.write_text(json.dumps(scores))
        return best_epoch(np.array(scores)) if scores else int(self.training["epochs"])

    def _inner_scores(self, curves: Curves) -> list[list[float]]:
        then = curves.as_of(inner_origin(curves))
        then = then.take(then.observed_age >= 0)
        now = curves.take(curves.index.get_indexer(then.index))
        grown = np.flatnonzero(now.observed_age > then.observed_age)
        if count_mature_cohorts(then) < MIN_MATURE_COHORTS or not len(grown):
            return []
        fitted = self.prepare(then)
        if why_insufficient(then, fitted.scaling.unit_revenue):
            return []
        expected = fitted.pattern.expected_curves(then)
        tasks = Tasks(torch.from_numpy(grown), torch.from_numpy(then.observed_age[grown]))
        week = pd.factorize(then.start[grown])[0]
        windows = CohortTensors.from_curves(now, expected, fitted.scaling)
        validation = ValidationSet(windows, tasks, torch.from_numpy(week))
        return self._trained(then, fitted, validation, self.training["epochs"])[1]

    def _trained(
        self, curves: Curves, fitted: FittedNet, validation: ValidationSet | None, stop: int
    ) -> tuple[nn.Module, list[list[float]]]:
        # Lightning takes seconds to import, and predicting needs nothing of it.
        from ltvnet.models.neural.training import train_net

        torch.manual_seed(self.context.seed)
        expected = fitted.pattern.leave_one_out_curves(curves, np.float32)
        net, schedule = build_net(self.net, fitted.scaling.input_sizes), self.training
        if self.warm_start is not None:
            net.load_state_dict(transfer_weights(self.warm_start, fitted.scaling))
            schedule = schedule | {"epochs": schedule["warm_epochs"]}
        folder = self.context.folder
        job = TrainingJob(
            net=net,
            cohort_tensors=CohortTensors.from_curves(curves, expected, fitted.scaling),
            validation=validation,
            confidence=fitted.confidence,
            seed=self.context.seed,
            stop_epoch=stop,
            checkpoint_folder=folder and (folder / "inner" if validation else folder),
            event_folder=folder and (folder.parent / "inner" if validation else folder.parent),
        )
        scores = train_net(job, TrainingConfig(**schedule), self.context.hardware)
        return job.net, scores

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`."""
        pattern = self.fitted.pattern
        outlook = pattern.current_expectation(curves)
        forecast = pattern.forecast(curves, ages, outlook)
        if self.fitted.net is None:
            return forecast
        growth = self._growth(curves, outlook, forecast.ages)  # (Q, N, H)
        value = curves.observed_value[:, None] + growth
        band = Band(*np.where(forecast.is_ahead, value, np.nan))
        return replace(forecast, raw=band, final=band)

    def to(self, device: str) -> None:
        """Let the net forecast on "cpu" or "cuda"; all else stays where the curves are.

        Raises ValueError for cuda where there is none.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device=cuda needs a GPU, and none is at hand: set device=cpu")
        torch.set_float32_matmul_precision("highest")  # a fit may have set another
        torch.backends.cudnn.allow_tf32 = False  # which would round within recurrent layers
        if self.fitted.net is not None:
            self.fitted.net.to(device)

    def interpolation_pattern(self) -> Pattern:
        """The pattern in whose shape forecasts grow between nodes."""
        return self.fitted.pattern

    def forecast_parts(self, curves: Curves, age: int) -> ForecastParts:
        """What a forecast is made of: the pattern's parts, and the net's with usual attributes."""
        pattern = self.fitted.pattern
        found = pattern.forecast_parts(curves, age)
        if self.fitted.net is None:
            return found
        growth = self._growth(
            curves, pattern.current_expectation(curves), np.array([age]), usual=True
        )[0, :, 0]
        return found._replace(
            with_own_growth=observed_or_forecast(curves, age, curves.observed_value + growth)
        )

    def _growth(
        self, curves: Curves, outlook: CurrentExpectation, ages: Ints, *, usual: bool = False
    ) -> Floats:
        """Growth from the observed age to each of `ages`: (Q, N, H), 0 at ages observed.

        Of cohorts with `usual` attributes, if so asked, whatever theirs are.
        """
        k = np.maximum(curves.observed_age, 0)
        inputs, net = (
            CohortTensors.current_inputs(curves, outlook, self.fitted.scaling),
            self.fitted.net,
        )
        assert net is not None
        if usual:
            inputs, net = (
                inputs._replace(codes=torch.zeros_like(inputs.codes)),
                with_mean_unseen_embedding(net),
            )
        earned = outlook.proportion_earned(np.maximum(np.array(NODES), k[:, None]))  # (N, J)
        level = outlook.cohort_level[:, None]
        steps = torch.from_numpy(level * np.diff(earned, axis=1))  # (N, I)
        with torch.inference_mode():
            device = next(net.parameters()).device
            raw = net(TaskInputs(*(x.to(device) for x in inputs))).cpu()  # (N, I, Q)
            z = log_multiples(raw.permute(2, 0, 1).contiguous(), self.fitted.confidence)
            multiple = z.exp().double()  # (Q, N, I)
            grown = functional.pad(torch.cumsum(multiple * steps, dim=2), (1, 0))  # (Q, N, J)
        growth: Floats = grown.numpy()
        if np.array_equal(ages, NODES):
            return growth
        interval = np.maximum(np.searchsorted(np.array(NODES), ages) - 1, 0)  # (H,)
        part = level * np.maximum(
            outlook.proportion_earned(ages) - earned[:, interval], 0.0
        )  # (N, H)
        growth = growth[:, :, interval] + multiple.numpy()[:, :, interval] * part
        return growth

    def extra_inputs(self) -> list[str]:
        """What of the training data, beside curves and attributes, the net learned from."""
        context = self.fitted.scaling.covariates
        if self.fitted.net is None:
            return []
        known = [name for name, one in context.series.items() if np.isfinite(one.mean).any()]
        return ["spend"] * bool(context.median_spend) + [f"series {name}" for name in known]

    def state(self) -> State:
        """The net's kind, sizes and weights, the scaling, and the pattern's state."""
        values, arrays = self.fitted.pattern.state()
        scaling, references = self.fitted.scaling.state()
        net = self.fitted.net
        weights = {} if net is None else net.state_dict()
        described = {
            "pattern": values,
            "scaling": scaling,
            "confidence": self.fitted.confidence,
            "net": None if net is None else self.net,
        }
        stored = add_prefix(arrays, "pattern/") | add_prefix(references, "series/")
        return described, stored | {f"net/{k}": w.cpu().numpy() for k, w in weights.items()}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The forecaster that `state()` described; it predicts, and fits no more."""
        neural = cls.__new__(cls)
        neural.net = values["net"]
        scaling = InputScaling.from_state(values["scaling"], strip_prefix(arrays, "series/"))
        net = None
        if values["net"] is not None:
            net = build_net(values["net"], scaling.input_sizes)
            weights = strip_prefix(arrays, "net/")
            net.load_state_dict({k: torch.from_numpy(w.copy()) for k, w in weights.items()})
            net.eval()
        pattern = Pattern.from_state(values["pattern"], strip_prefix(arrays, "pattern/"))
        neural.fitted = FittedNet(pattern, scaling, values["confidence"], net)
        return neural


def best_epoch(scores: Floats) -> int:
    """The last epoch not worse than the best by more than one standard error.

    `scores` (E + 1, W) each week's part of the loss before training and after each epoch; the
    standard error is that of the difference to the best over weeks. A short validation is noisy,
    and the last steps of a one-cycle schedule are its best ones: only a real loss stops earlier.
    """
    worse = scores - scores[np.argmin(scores.sum(axis=1))]
    weeks = scores.shape[1]
    error = worse.std(axis=1, ddof=1) * np.sqrt(weeks) if weeks > 1 else np.full(len(worse), np.inf)
    return int(np.flatnonzero(worse.sum(axis=1) <= error)[-1])


def build_net(net: Mapping[str, Any], sizes: InputSizes) -> nn.Module:
    """A net from its config: `kind` in NETS, and the arguments of its class."""
    arguments = dict(net)
    module, _, name = NETS[arguments.pop("kind")].partition(":")
    built: nn.Module = getattr(import_module(module), name)(sizes=sizes, **arguments)
    return built


def transfer_weights(start: FittedNet, scaling: InputScaling) -> dict[str, Tensor]:
    """The weights of a net, its embeddings in the order of other categories.

    A category that the net did not know starts as the unseen bucket.
    """
    assert start.net is not None
    weights = dict(start.net.state_dict())
    for c, (name, values) in enumerate(scaling.categories.items()):
        known = start.scaling.categories.get(name, [])
        place = [0, *(known.index(value) + 1 if value in known else 0 for value in values)]
        key = f"attributes.tables.{c}.weight"
        weights[key] = weights[key][place]
    return weights


def with_mean_unseen_embedding(net: nn.Module) -> nn.Module:
    """A copy of a net that takes what is unseen to be the mean of the categories it knows.

    Its own unseen bucket has learned nothing where training had no rare category.
    """
    weights = dict(net.state_dict())
    for key, table in weights.items():
        if key.startswith("attributes.tables.") and len(table) > 1:
            weights[key] = torch.cat((table[1:].mean(dim=0, keepdim=True), table[1:]))
    made = deepcopy(net)
    made.load_state_dict(weights)
    return made
