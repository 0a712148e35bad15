"""The forecasters by name: one line makes a class available to every script and bundle.

Classes are named by text, `module:Class`, so that nothing is imported before it is asked for: this
is the one place from which this room knows of models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from ltvnet.forecasting.forecaster import Forecaster, Predictor
from ltvnet.forecasting.model_spec import MIXTURE, ModelSpec
from ltvnet.forecasting.run_context import RunContext
from ltvnet.forecasting.typed_config import SettingError, check_arguments


@dataclass(frozen=True)
class Registration:
    """A forecaster's class as `module:Class`, and what its constructor takes beside arguments.

    `takes` "nothing" where a fit is not random; "seed" for a keyword `seed`; "context" for a
    keyword `context`, the whole RunContext.
    """

    target: str
    takes: Literal["nothing", "seed", "context"] = "nothing"


REGISTRY: Mapping[str, Registration] = {
    "pattern": Registration("ltvnet.models.pattern.pattern:Pattern"),
    "neural": Registration("ltvnet.models.neural.forecaster:NeuralForecaster", takes="context"),
    "corrected": Registration("ltvnet.correction.corrected:Corrected"),
    "mack": Registration("ltvnet.models.baselines.mack:Mack"),
    "benktander": Registration("ltvnet.models.baselines.benktander:Benktander"),
    "growth_curve": Registration("ltvnet.models.baselines.growth_curve:GrowthCurve"),
    "loglinear": Registration("ltvnet.models.baselines.loglinear:LogLinear"),
    "power_law": Registration("ltvnet.models.baselines.power_law:PowerLaw"),
    "neighbours": Registration("ltvnet.models.baselines.neighbours:Neighbours"),
    "boosting": Registration("ltvnet.models.baselines.boosting:Boosting", takes="seed"),
    "growth_lstm": Registration("ltvnet.models.baselines.growth_lstm:GrowthLSTM", takes="seed"),
}


def find_registration(name: str) -> Registration:
    """Return how a forecaster is registered. Raises ValueError for a name that is not there."""
    if name not in REGISTRY:
        raise ValueError(f"expected a forecaster out of {', '.join(REGISTRY)}, got {name!r}")
    return REGISTRY[name]


def forecaster_class(name: str) -> type[Predictor]:
    """Import the class of a forecaster. Raises ValueError for a name that is not registered."""
    module, _, attribute = find_registration(name).target.partition(":")
    cls: type[Predictor] = getattr(import_module(module), attribute)
    return cls


def create_forecaster(spec: ModelSpec, context: RunContext) -> Forecaster:
    """Make an unfitted forecaster of a spec that is no mixture.

    Raises ValueError for a name that is not registered, and for "corrected", which is made of a
    forecaster and its past.
    """
    cls = forecaster_class(spec.name)
    if not issubclass(cls, Forecaster) or spec.name == "corrected":
        raise ValueError(f"expected a model that learns from curves, got {spec.name!r}")
    forecaster: Forecaster = cls(**spec.arguments, **context_arguments(spec.name, context))
    return forecaster


def check_spec(spec: ModelSpec, context: RunContext, path: str) -> None:
    """Raise ValueError for what a model's constructor refuses, before any data are read.

    `path` is the key below which its config stands, such as "model".
    """
    for name, member in spec.members.items():
        check_spec(member, context, f"{path}.bases.{name}")
    if spec.name == MIXTURE:
        return

    choices = [name for name in REGISTRY if name != "corrected"]
    if spec.name not in choices:
        expected = f"expected {{place}}name out of {', '.join(choices)}"
        raise SettingError(f"{path}.", f"{expected}, got {spec.name!r}")
    supplied = tuple(context_arguments(spec.name, context))
    check_arguments(forecaster_class(spec.name), spec.arguments, path, supplied)
    try:
        create_forecaster(spec, context)
    except SettingError as error:
        raise error.at_key(path) from error


def relevant_context(spec: ModelSpec, context: RunContext) -> dict[str, object]:
    """Return the seed and the precision of a run, where the forecasts of a spec depend on them."""
    takes = {find_registration(model.name).takes for model in spec.models.values()}
    relevant: dict[str, object] = {}
    if takes != {"nothing"}:
        relevant["seed"] = context.seed
    if "context" in takes:
        relevant["precision"] = context.hardware.precision
    return relevant


def context_arguments(name: str, context: RunContext) -> dict[str, Any]:
    """Return what a forecaster's constructor takes of the context, by keyword."""
    takes = find_registration(name).takes
    if takes == "seed":
        return {"seed": context.seed}
    return {"context": context} if takes == "context" else {}
