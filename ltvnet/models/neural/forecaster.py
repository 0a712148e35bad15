"""A net on top of the historical pattern, as a forecaster.

Shapes: N cohorts, H ages, J nodes, I = J - 1 intervals, Q quantities (mean, p10, p50, p90).
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODE_AGES, NODES, Curves
from ltvnet.forecasting.evidence import (
    MIN_MATURE_COHORTS,
    confidence,
    count_mature_cohorts,
    why_insufficient,
    within_one_standard_error,
)
from ltvnet.forecasting.forecast import Band, Forecast, ForecastParts, observed_or_forecast
from ltvnet.forecasting.forecaster import State, StateArrays, StateValues, add_prefix, strip_prefix
from ltvnet.forecasting.interpolation import interval_index
from ltvnet.forecasting.model_spec import Config
from ltvnet.forecasting.run_context import RunContext
from ltvnet.forecasting.typed_config import SettingError, check_arguments, settings_from
from ltvnet.models.neural.cohort_tensors import CohortTensors, Tasks
from ltvnet.models.neural.covariates import CovariateConfig
from ltvnet.models.neural.input_scaling import InputScaling
from ltvnet.models.neural.nets.heads import InputSizes, TaskInputs, log_multiples
from ltvnet.models.neural.training_config import TrainingConfig, TrainingJob
from ltvnet.models.neural.validation import ValidationSet
from ltvnet.models.pattern.expected_curves import CurrentExpectation
from ltvnet.models.pattern.fitted_pattern import FittedPattern
from ltvnet.models.pattern.pattern import Pattern
from ltvnet.storage import atomic_write

log = logging.getLogger(__name__)

NETS: Mapping[str, str] = {
    "lstm": "ltvnet.models.neural.nets.lstm:LSTM",
    "mlp": "ltvnet.models.neural.nets.mlp:MLP",
    "tide": "ltvnet.models.neural.nets.tide:CohortTiDE",
}

SMALLEST_INPUTS = InputSizes(nodes=2, features=1, scalars=1, categories=(1,))
"""Inputs with which a net is built for no more than to see that its config is right."""


def inner_origin(curves: Curves) -> np.datetime64:
    """The day before which a fit stands to be validated: max(8 weeks, 15 % of history) ago."""
    history = (curves.origin - curves.end.min()).astype(int)
    return curves.origin - np.timedelta64(max(56, round(0.15 * history)), "D")


@dataclass(frozen=True)
class FittedNet:
    """A pattern, and the net that departs from it (None: the pattern alone).

    `confidence` in 0..1 scales the mean's departure; `scaling` makes the net's inputs.
    """

    pattern: FittedPattern
    scaling: InputScaling
    confidence: float
    net: nn.Module | None


class NeuralForecaster:
    """A net that predicts the departure from the pattern.

    `net` its kind and sizes, `pattern` the config of a Pattern, `training` the arguments of
    TrainingConfig, `covariates` those of CovariateConfig; `context` the seed, the hardware and the
    folder for checkpoints (None: none are written; events go beside it). Raises ValueError for an
    unknown kind.
    """

    can_fit = True
    """False of a forecaster that was restored from its state."""

    _fitted: FittedNet | None = None

    def __init__(
        self,
        *,
        net: Config,
        pattern: Config,
        training: Config,
        covariates: Config,
        context: RunContext,
    ) -> None:
        """Take the configuration; nothing is random here."""
        check_net(net)
        self.net = dict(net)
        self.training = settings_from(TrainingConfig, training, "training")
        self.pattern = Pattern.from_config(pattern)
        self.covariates = settings_from(CovariateConfig, covariates, "covariates")
        self.context = context
        self.warm_start: FittedNet | None = None

    @property
    def fitted_net(self) -> FittedNet:
        """The fitted pattern and net. Raises ValueError before `fit`."""
        if self._fitted is None:
            raise ValueError("the net was not fitted yet: call fit(curves) first")
        return self._fitted

    @fitted_net.setter
    def fitted_net(self, fitted: FittedNet) -> None:
        self._fitted = fitted

    def fit(self, curves: Curves) -> Self:
        """Fit the pattern, find how long to train at an inner origin, train as of the origin.

        Where history is too short the pattern stands alone, said in one line of the log. Raises
        ValueError when no cohort has a complete age, or for a forecaster that was restored.
        """
        self._check_can_fit()
        curves = curves.take(curves.observed_age >= 0)
        self.fitted_net = self.prepare(curves)
        if reason := why_insufficient(curves, self.fitted_net.scaling.unit_revenue):
            log.warning("too little data for a net (%s): the pattern forecasts alone", reason)
            return self

        if self.warm_start is None:
            epochs = self.choose_epochs(curves)
        else:
            epochs = self.training.warm_epochs
        if epochs == 0:
            log.warning(
                "%s as of %s: trained on the earlier outcomes it was no better on the later ones "
                "than the pattern, which forecasts alone",
                self.net["kind"],
                curves.origin,
            )
            return self

        net, _ = self.train(curves, self.fitted_net, None, epochs)
        self.fitted_net = replace(self.fitted_net, net=net)
        return self

    def can_start(self) -> bool:
        """Return whether there is a net that another fit can start from."""
        return self.fitted_net.net is not None

    @classmethod
    def warm_up(cls) -> None:
        """Import what a fit needs: Lightning takes seconds."""
        import_module("ltvnet.models.neural.training")

    def start_from(self, state: State) -> None:
        """Begin the next fit with the net of a fitted forecaster, for `warm_epochs` only.

        How long to train is then not looked for: the schedule is that short.
        """
        self._check_can_fit()
        self.warm_start = self.from_state(*state).fitted_net

    def prepare(self, curves: Curves) -> FittedNet:
        """Fit all but the net: the pattern, the scaling of inputs and the confidence in a net.

        With a warm start the inputs are those of its net. Raises ValueError when no cohort has a
        complete age, or for a forecaster that was restored.
        """
        self._check_can_fit()
        pattern = self.pattern.estimate(curves)
        scaling = InputScaling.fit(
            curves, pattern.segment_curves.median_revenue_d7, self.covariates
        )
        if self.warm_start is not None:
            start_covariates = self.warm_start.scaling.covariates
            scaling = replace(scaling, covariates=scaling.covariates.align_to(start_covariates))
        return FittedNet(pattern, scaling, confidence(curves), None)

    def choose_epochs(self, curves: Curves) -> int:
        """Find the epochs after which a fit at the inner origin forecast best.

        All of the schedule where there is no such fit. Scores are kept in the folder of the run.
        """
        scores_file = None
        if self.context.folder is not None:
            scores_file = self.context.folder / "inner" / "scores.json"

        if scores_file is not None and scores_file.exists():
            scores = json.loads(scores_file.read_text())
        else:
            scores = self.inner_scores(curves)
            if scores_file is not None:
                scores_file.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(scores_file) as path:
                    path.write_text(json.dumps(scores))
        return best_epoch(np.array(scores)) if scores else self.training.epochs

    def inner_scores(self, curves: Curves) -> list[list[float]]:
        """Fit as of the inner origin and score each epoch on what became of cohorts since.

        Returns each week's part of the loss before training and after each epoch; an empty list
        where too little was known at the inner origin.
        """
        past_curves = curves.as_of(inner_origin(curves))
        past_curves = past_curves.take(past_curves.observed_age >= 0)
        present_curves = curves.take(curves.index.get_indexer(past_curves.index))
        grown_rows = np.flatnonzero(present_curves.observed_age > past_curves.observed_age)
        if count_mature_cohorts(past_curves) < MIN_MATURE_COHORTS or not len(grown_rows):
            return []
        fitted = self.prepare(past_curves)
        if why_insufficient(past_curves, fitted.scaling.unit_revenue):
            return []

        expected = fitted.pattern.expected_curves(past_curves)
        observed_age = past_curves.observed_age[grown_rows]
        week_index, _ = pd.factorize(past_curves.start[grown_rows])
        validation = ValidationSet(
            cohort_tensors=CohortTensors.from_curves(present_curves, expected, fitted.scaling),
            tasks=Tasks(torch.from_numpy(grown_rows), torch.from_numpy(observed_age)),
            week_index=torch.from_numpy(week_index),
        )
        _, scores = self.train(past_curves, fitted, validation, self.training.epochs)
        return scores

    def train(
        self, curves: Curves, fitted: FittedNet, validation: ValidationSet | None, stop_epoch: int
    ) -> tuple[nn.Module, list[list[float]]]:
        """Train a new net on curves that `fitted` was prepared with, up to `stop_epoch`.

        Returns the net, and the scores of `inner_scores` where there is a validation set.
        """
        # Lightning takes seconds to import, and predicting needs nothing of it.
        from ltvnet.models.neural.training import train_net

        torch.manual_seed(self.context.seed)
        expected = fitted.pattern.leave_one_out_curves(curves, np.float32)
        net = build_net(self.net, fitted.scaling.input_sizes)
        schedule = self.training
        if self.warm_start is not None:
            net.load_state_dict(transfer_weights(self.warm_start, fitted.scaling))
            schedule = replace(schedule, epochs=schedule.warm_epochs)

        checkpoint_folder = self.context.folder
        event_folder = None if checkpoint_folder is None else checkpoint_folder.parent
        if checkpoint_folder is not None and event_folder is not None and validation is not None:
            checkpoint_folder = checkpoint_folder / "inner"
            event_folder = event_folder / "inner"
        purpose = "training" if validation is None else "finding how long to train"
        job = TrainingJob(
            name=f"{self.net['kind']}: {purpose}",
            net=net,
            cohort_tensors=CohortTensors.from_curves(curves, expected, fitted.scaling),
            validation=validation,
            confidence=fitted.confidence,
            seed=self.context.seed,
            stop_epoch=stop_epoch,
            checkpoint_folder=checkpoint_folder,
            event_folder=event_folder,
        )
        scores = train_net(job, schedule, self.context.hardware)
        return job.net, scores

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`."""
        pattern = self.fitted_net.pattern
        expectation = pattern.current_expectation(curves)
        forecast = pattern.forecast(curves, ages, expectation)
        if self.fitted_net.net is None:
            return forecast
        growth = self._growth(self.fitted_net.net, curves, expectation, forecast.ages)  # (Q, N, H)
        value = curves.observed_value[:, None] + growth
        band = Band(*np.where(forecast.is_ahead, value, np.nan)).widen_to_mean()
        return replace(forecast, raw=band, final=band)

    def to(self, device: str) -> None:
        """Let the net forecast on "cpu" or "cuda"; all else stays where the curves are.

        Raises ValueError for cuda where there is none.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device=cuda needs a GPU, and none is at hand: set device=cpu")
        torch.set_float32_matmul_precision("highest")  # a fit may have set another
        torch.backends.cudnn.allow_tf32 = False  # which would round within recurrent layers
        if self.fitted_net.net is not None:
            self.fitted_net.net.to(device)

    def interpolation_pattern(self) -> FittedPattern:
        """The pattern in whose shape forecasts grow between nodes."""
        return self.fitted_net.pattern

    def forecast_parts(self, curves: Curves, age: int) -> ForecastParts:
        """Split a forecast into the pattern's parts, and the net's with usual attributes."""
        pattern = self.fitted_net.pattern
        parts = pattern.forecast_parts(curves, age)
        if self.fitted_net.net is None:
            return parts
        expectation = pattern.current_expectation(curves)
        net = with_mean_unseen_embedding(self.fitted_net.net)
        growth = self._growth(net, curves, expectation, np.array([age]), hide_attributes=True)
        mean_value = curves.observed_value + growth[0, :, 0]
        return parts._replace(with_own_growth=observed_or_forecast(curves, age, mean_value))

    def _growth(
        self,
        net: nn.Module,
        curves: Curves,
        expectation: CurrentExpectation,
        ages: Ints,
        *,
        hide_attributes: bool = False,
    ) -> Floats:
        """Growth from the observed age to each of `ages`: (Q, N, H), 0 at ages observed.

        With `hide_attributes`, as if the attributes of all cohorts were unseen.
        """
        inputs = CohortTensors.current_inputs(curves, expectation, self.fitted_net.scaling)
        if hide_attributes:
            inputs = inputs._replace(codes=torch.zeros_like(inputs.codes))

        observed_age = np.maximum(curves.observed_age, 0)
        node_ages = np.maximum(NODE_AGES, observed_age[:, None])  # (N, J)
        earned = expectation.proportion_earned(node_ages)  # (N, J)
        level = expectation.cohort_level[:, None]
        pattern_growth = torch.from_numpy(level * np.diff(earned, axis=1))  # (N, I)
        with torch.inference_mode():
            multiple = self._multiples(net, inputs)
            growth_to_nodes = torch.cumsum(multiple * pattern_growth, dim=2)
            growth: Floats = functional.pad(growth_to_nodes, (1, 0)).numpy()  # (Q, N, J)
        if np.array_equal(ages, NODES):
            return growth

        interval = interval_index(ages)  # (H,)
        growth_in_interval = expectation.proportion_earned(ages) - earned[:, interval]  # (N, H)
        np.maximum(growth_in_interval, 0.0, out=growth_in_interval)
        growth_in_interval *= level
        growth = growth[:, :, interval] + multiple.numpy()[:, :, interval] * growth_in_interval
        return growth

    def _multiples(self, net: nn.Module, inputs: TaskInputs) -> Tensor:
        """Multiples of the pattern's growth by a net: (Q, N, I), float64 on the CPU."""
        device = next(net.parameters()).device
        raw = net(TaskInputs(*(tensor.to(device) for tensor in inputs))).cpu()  # (N, I, Q)
        z = log_multiples(raw.permute(2, 0, 1).contiguous(), self.fitted_net.confidence)
        return z.exp().double()

    def extra_inputs(self) -> list[str]:
        """Names of the training data, beside curves and attributes, that the net learned from."""
        if self.fitted_net.net is None:
            return []
        covariates = self.fitted_net.scaling.covariates
        names = ["spend"] if covariates.median_spend else []
        for name, scaling in covariates.series.items():
            if np.isfinite(scaling.mean).any():
                names.append(f"series {name}")
        return names

    def state(self) -> State:
        """The net's kind, sizes and weights, the scaling, and the pattern's state."""
        pattern, pattern_arrays = self.fitted_net.pattern.state()
        scaling, series_arrays = self.fitted_net.scaling.state()
        net = self.fitted_net.net
        values = {
            "pattern": pattern,
            "scaling": scaling,
            "confidence": self.fitted_net.confidence,
            "net": None if net is None else self.net,
        }

        arrays = add_prefix(pattern_arrays, "pattern/") | add_prefix(series_arrays, "series/")
        if net is not None:
            weights = {name: weight.cpu().numpy() for name, weight in net.state_dict().items()}
            arrays |= add_prefix(weights, "net/")
        return values, arrays

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Restore the forecaster that `state()` described; it predicts, and fits no more."""
        scaling = InputScaling.from_state(values["scaling"], strip_prefix(arrays, "series/"))
        net = None
        if values["net"] is not None:
            net = build_net(values["net"], scaling.input_sizes)
            weights = strip_prefix(arrays, "net/")
            net.load_state_dict({k: torch.from_numpy(w.copy()) for k, w in weights.items()})
            net.eval()
        pattern = FittedPattern.from_state(values["pattern"], strip_prefix(arrays, "pattern/"))

        # a state has no config of training: this one lacks what only a fit needs
        forecaster = cls.__new__(cls)
        forecaster.can_fit = False
        forecaster.net = values["net"]
        forecaster.fitted_net = FittedNet(pattern, scaling, values["confidence"], net)
        return forecaster

    def _check_can_fit(self) -> None:
        """Raise ValueError for a forecaster that was restored."""
        if not self.can_fit:
            raise ValueError(
                "a forecaster that was restored from its state predicts, and fits no more: make a "
                "new one of its config to fit it"
            )


def best_epoch(scores: Floats) -> int:
    """The last epoch not worse than the best by more than one standard error.

    `scores` (E + 1, W) each week's part of the loss before training and after each epoch; the
    standard error is that of the difference to the best over weeks. A short validation is noisy,
    and the last steps of a one-cycle schedule are its best ones: only a real loss stops earlier.
    """
    return int(np.flatnonzero(within_one_standard_error(scores))[-1])


def build_net(net: Config, sizes: InputSizes) -> nn.Module:
    """Build a net from its config: `kind` in NETS, and the arguments of its class."""
    return net_class(net["kind"])(sizes=sizes, **_net_arguments(net))


def net_class(kind: str) -> Callable[..., nn.Module]:
    """Import the class of a kind of net."""
    module, _, name = NETS[kind].partition(":")
    cls: Callable[..., nn.Module] = getattr(import_module(module), name)
    return cls


def _net_arguments(net: Config) -> dict[str, Any]:
    return {key: value for key, value in net.items() if key != "kind"}


def check_net(net: Config) -> None:
    """Raise ValueError for the config of a net that could not be built."""
    kind = net.get("kind") if isinstance(net, Mapping) else None
    if not isinstance(kind, str) or kind not in NETS:
        expected = f"expected {{place}}kind out of {', '.join(NETS)}"
        raise SettingError("net.", f"{expected}, got {kind!r} in {net!r}")
    check_arguments(net_class(kind), _net_arguments(net), "net", supplied=("sizes",))
    with torch.device("meta"):  # which takes no memory and no random number
        build_net(net, SMALLEST_INPUTS)


def transfer_weights(start: FittedNet, scaling: InputScaling) -> dict[str, Tensor]:
    """Weights of a net, its embeddings in the order of other categories.

    A category that the net did not know starts as the unseen bucket.
    """
    assert start.net is not None
    weights = dict(start.net.state_dict())
    for number, (name, values) in enumerate(scaling.categories.items()):
        start_values = start.scaling.categories.get(name, [])
        rows = [0]
        for value in values:
            rows.append(start_values.index(value) + 1 if value in start_values else 0)
        key = f"attributes.tables.{number}.weight"
        weights[key] = weights[key][rows]
    return weights


def with_mean_unseen_embedding(net: nn.Module) -> nn.Module:
    """Copy a net, its unseen bucket the mean of the categories it knows.

    Its own unseen bucket has learned nothing where training had no rare category.
    """
    weights = dict(net.state_dict())
    for key, table in weights.items():
        if key.startswith("attributes.tables.") and len(table) > 1:
            mean = table[1:].mean(dim=0, keepdim=True)
            weights[key] = torch.cat((mean, table[1:]))
    copied_net = deepcopy(net)
    copied_net.load_state_dict(weights)
    return copied_net
