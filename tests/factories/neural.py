"""Nets on the pattern, small enough to be trained in a moment."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from factories.configs import (
    LSTM,
    LSTM_NET,
    MLP_NET,
    TIDE_LAYERS,
    TIDE_NET,
    TRAINING,
    Config,
    arguments_of,
)
from factories.models import CPU, make_run_context
from ltvnet.data.curves import Curves
from ltvnet.models.neural.cohort_tensors import CohortTensors
from ltvnet.models.neural.forecaster import FittedNet, NeuralForecaster, build_net
from ltvnet.models.neural.nets.heads import InputSizes
from ltvnet.models.neural.training_config import TrainingConfig, TrainingJob
from ltvnet.models.neural.training_module import ResidualTrainingModule

NETS = {
    "lstm": LSTM_NET,
    "mlp": MLP_NET,
    "tide": TIDE_NET,
    "tide with norms": TIDE_NET
    | {"norm": True, "layers": TIDE_LAYERS | {"encoder": 2, "decoder": 2}},
}
"""Every kind of net, and what its class leaves open."""


FIVE_NODES = InputSizes(nodes=5, features=2, scalars=3, categories=(3, 2))
"""Inputs that are none of the windows: fewer nodes, and other features."""


def make_neural(seed: int = 0, folder: Path | None = None, **training: object) -> NeuralForecaster:
    """An LSTM on the pattern, with some settings of training changed."""
    context = make_run_context(seed, folder)
    return NeuralForecaster(
        **arguments_of(LSTM) | {"training": TRAINING | training}, context=context
    )


class FullSchedule(NeuralForecaster):
    """A net that trains to the end of its schedule, whatever the inner origin says."""

    def choose_epochs(self, curves: Curves) -> int:
        """Return the number of epochs of the schedule."""
        return self.training.epochs


def make_full_schedule(**changes: object) -> FullSchedule:
    """An LSTM that trains to the end of its schedule, with some arguments changed."""
    return FullSchedule(**arguments_of(LSTM) | changes, context=make_run_context())


def make_deterministic(
    net: str, folder: Path | None = None, **hardware: object
) -> NeuralForecaster:
    """A net without dropout, with batches of an odd size, on some hardware."""
    changes = {"net": NETS[net] | {"dropout": 0.0}, "training": TRAINING | {"batch_size": 37}}
    checkpoints = None if folder is None else folder / "checkpoints"
    context = make_run_context(folder=checkpoints, **{"log_every": 1} | hardware)
    return NeuralForecaster(**arguments_of(LSTM) | changes, context=context)


def make_net(config: Config, sizes: InputSizes) -> nn.Module:
    """A net of a config, its weights drawn from seed 0."""
    torch.manual_seed(0)
    return build_net(config, sizes)


def windows_of(fitted: FittedNet, curves: Curves) -> CohortTensors:
    """Tensors that a net is trained on, each cohort beside the pattern of the others."""
    expected = fitted.pattern.leave_one_out_curves(curves, np.float32)
    return CohortTensors.from_curves(curves, expected, fitted.scaling)


def train_for(neural: NeuralForecaster, curves: Curves, epochs: int) -> nn.Module:
    """The net of a forecaster after some epochs as of the origin, not validated anywhere."""
    net, _ = neural.train(curves, neural.prepare(curves), None, stop_epoch=epochs)
    return net


def module_on(device: torch.device, curves: Curves) -> ResidualTrainingModule:
    """A module on a device, before its first step; without dropout, which is drawn there."""
    neural = make_neural()
    fitted = neural.prepare(curves)
    windows = windows_of(fitted, curves)
    torch.manual_seed(0)
    job = TrainingJob(
        name="lstm",
        net=build_net(neural.net | {"dropout": 0.0}, fitted.scaling.input_sizes),
        cohort_tensors=windows.to(device),
        validation=None,
        confidence=fitted.confidence,
        seed=0,
        stop_epoch=1,
        checkpoint_folder=None,
        event_folder=None,
    )
    module = ResidualTrainingModule(job=job, training=TrainingConfig(**TRAINING), hardware=CPU)
    module.scale = torch.ones(())
    return module.to(device).train()
