"""The growth-rate LSTM here and in Keras, on the same windows: what=keras.

Both learn the next day's growth rate with nets of the same layers; then both roll a table out, day
by day. Keras predicts a window a call, as it is usually done.

Shapes: N cohorts, M windows, W days of a window.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra import compose
from hydra.utils import instantiate
from launch import model_spec, run_context
from numpy.typing import NDArray
from omegaconf import DictConfig
from peers import library_python
from targets import Measurement, run_logged

if TYPE_CHECKING:
    from ltvnet.data.curves import Curves
    from ltvnet.models.baselines.growth_lstm import GrowthLSTM, GrowthRateNet

log = logging.getLogger("benchmark")

PEER = Path(__file__).resolve().parent / "keras_peer.py"

WEEK = 7
"""Age from which the table is forecast."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WindowSplit:
    """Windows (M, W) and the rates that followed (M,), to learn from and held out."""

    x: Floats
    y: Floats
    x_held: Floats
    y_held: Floats


def measurements(config: DictConfig) -> list[Measurement]:
    """Measure the time to Keras' last validation error, and to the table, of both.

    `config.keras`: `cohorts` with most users, `days` of the table, `windows` of them and the
    share `held` out; `overrides` of configs/train.yaml; `repeats` of ours.
    """
    from ltvnet.forecasting.registry import create_forecaster

    settings = config.keras
    job = compose("train", ["model=growth_lstm", *settings.overrides])
    job.out = config.out
    spec = model_spec(job)
    context = run_context(job, None)
    source = instantiate(job.data)
    known_curves = source.history().as_of(source.origin)
    curves = largest_cohorts(known_curves, settings.cohorts, WEEK + settings.days)
    split = split_windows(curves, settings.windows, settings.held, job.seed)

    keras_costs = run_keras(config, spec.arguments["net"], split)
    target_error = keras_costs["errors"][-1]
    fit_seconds = []
    for seed in range(settings.repeats):
        model = create_forecaster(spec, replace(context, seed=seed))
        fit_seconds.append(seconds_to_error(model, split, target_error))

    fitted = create_forecaster(spec, context).fit(curves)
    table_seconds = []
    for _ in range(settings.repeats):
        prefixes = curves.cut(WEEK)  # anew, so that nothing is remembered of the last time
        table_seconds.append(time_table(fitted, prefixes, settings.days))
    return compare_costs(keras_costs, fit_seconds, table_seconds, len(curves) * settings.days)


def largest_cohorts(curves: "Curves", count: int, age: int) -> "Curves":
    """Return the cohorts with most users of those observed to an age.

    Rates of tiny cohorts grow a hundredfold by chance, and the error is then of a few of them.
    Raises ValueError where there are not as many.
    """
    candidates = np.flatnonzero(curves.observed_age >= age)
    if len(candidates) < count:
        raise ValueError(f"expected {count} cohorts observed to D{age}, got {len(candidates)}")
    order = np.argsort(-curves.users[candidates], kind="stable")
    return curves.take(np.sort(candidates[order[:count]]))


def split_windows(curves: "Curves", count: int, held_share: float, seed: int) -> WindowSplit:
    """Take so many windows of curves at random, a share of them held out.

    Raises ValueError where there are not as many.
    """
    from ltvnet.models.baselines.growth_lstm import training_windows

    x, y = training_windows(curves.values, curves.observed_age)
    if len(y) < count:
        raise ValueError(f"expected {count} windows, got {len(y)}")
    rows = np.random.default_rng(seed).permutation(len(y))[:count]
    held, kept = np.split(rows, [round(held_share * count)])
    return WindowSplit(x[kept], y[kept], x[held], y[held])


def run_keras(config: DictConfig, net: Mapping[str, Any], split: WindowSplit) -> dict[str, Any]:
    """Let Keras fit the windows; return its costs.

    These are seconds and errors of epochs, seconds of calls, parameters and versions. They are
    kept in `out` as long as they are of exactly these windows and settings.
    """
    settings = config.keras
    folder = Path(config.out) / "keras"
    python = library_python(settings, Path(config.out))
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: array.astype(np.float32) for name, array in vars(split).items()}
    np.savez(folder / "windows.npz", **arrays)
    fit_settings = {name: settings[name] for name in ("epochs", "batch_size", "threads", "calls")}
    (folder / "settings.json").write_text(json.dumps({**fit_settings, **net, "seed": 0}))

    inputs_hash = hash_inputs(folder)
    stamp = folder / "stamp"
    if not stamp.exists() or stamp.read_text() != inputs_hash:
        log_file = folder / "peer.log"
        if not run_logged([python, PEER, folder], log_file):
            raise ValueError(f"expected a fit of Keras, got none: see {log_file}")
        stamp.write_text(inputs_hash)

    costs: dict[str, Any] = json.loads((folder / "costs.json").read_text())
    seconds = sum(costs["seconds"])
    log.info("Keras %s: %.0f s to error %.4g", costs["versions"], seconds, costs["errors"][-1])
    return costs


def hash_inputs(folder: Path) -> str:
    """Return SHA-256 of all that the fit of Keras in a folder depends on."""
    inputs = (folder / "settings.json", folder / "windows.npz", PEER)
    return "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs)


def seconds_to_error(model: "GrowthLSTM", split: WindowSplit, error: float) -> float:
    """Return seconds of training to a validation error (infinite: never), validation left out."""
    start = time.perf_counter()
    validating = 0.0
    epoch_seconds: list[float] = []
    epoch_errors: list[float] = []

    def note_epoch(net: "GrowthRateNet") -> None:
        nonlocal validating
        now = time.perf_counter()
        epoch_seconds.append(now - start - validating)
        epoch_errors.append(validation_error(net, split))
        validating += time.perf_counter() - now

    model.train_net(split.x, split.y, note_epoch)
    epochs = zip(epoch_seconds, epoch_errors, strict=True)
    texts = [f"{seconds:.1f} s {epoch_error:.4g}" for seconds, epoch_error in epochs]
    log.info("growth_lstm, validation error: %s", ", ".join(texts))

    good_epochs = np.flatnonzero(np.array(epoch_errors) <= error)
    return epoch_seconds[good_epochs[0]] if len(good_epochs) else np.inf


def validation_error(net: "GrowthRateNet", split: WindowSplit) -> float:
    """Return the mean squared error of the rates held out, without dropout."""
    import torch

    net.eval()
    with torch.inference_mode():
        forecast = net(torch.from_numpy(split.x_held.astype(np.float32))).numpy()
    net.train()
    return float(np.square(forecast - split.y_held).mean())


def time_table(model: "GrowthLSTM", curves: "Curves", days: int) -> tuple[float, float]:
    """Return seconds of the net's table of the days after the observed, and of all of predict."""
    from ltvnet.models.baselines.growth_lstm import roll_out

    assert model.net is not None
    ages = range(WEEK + 1, WEEK + days + 1)
    start = time.perf_counter()
    roll_out(model.net, curves, ages)
    rolled_out = time.perf_counter()
    model.predict(curves, ages)
    return rolled_out - start, time.perf_counter() - rolled_out


def compare_costs(
    keras_costs: Mapping[str, Any],
    fit_seconds: Sequence[float],
    table_seconds: Sequence[tuple[float, float]],
    cells: int,
) -> list[Measurement]:
    """Compare the costs of Keras (see `run_keras`) with our seconds of fits and of tables.

    All of its epochs take as long as their median: some are disturbed. `cells` of the table.
    """
    errors = keras_costs["errors"]
    epoch_count = len(keras_costs["seconds"])
    epoch_seconds = float(np.median(keras_costs["seconds"]))
    first_good_epoch = 1 + int(np.argmax(np.array(errors) <= errors[-1]))
    keras_fit = epoch_count * epoch_seconds
    keras_first = first_good_epoch * epoch_seconds
    our_fit = float(np.median(fit_seconds))

    call_seconds = float(np.median(keras_costs["calls"]))
    keras_table = call_seconds * cells
    roll_out_seconds, predict_seconds = np.median(table_seconds, axis=0)
    extrapolation = f"{cells:,} calls from {len(keras_costs['calls'])}"
    return [
        Measurement(
            f"Keras, {epoch_count} epochs, validation error {errors[-1]:.4g}", keras_fit, "s"
        ),
        Measurement(
            f"Keras, until it first had that error, after {first_good_epoch}", keras_first, "s"
        ),
        Measurement("growth_lstm, until it has that error", our_fit, "s"),
        Measurement(
            f"growth_lstm sooner than {epoch_count} epochs of Keras",
            keras_fit / our_fit,
            "x",
            20,
            is_minimum=True,
        ),
        Measurement("growth_lstm sooner than Keras first", keras_first / our_fit, "x"),
        Measurement("Keras, a predict call", 1000 * call_seconds, "ms"),
        Measurement(
            f"Keras, table of {cells:,}, extrapolated to {extrapolation}", keras_table, "s"
        ),
        Measurement(f"growth_lstm, table of {cells:,}", roll_out_seconds, "s"),
        Measurement(
            "growth_lstm, table faster", keras_table / roll_out_seconds, "x", 5000, is_minimum=True
        ),
        Measurement("growth_lstm, all of predict, faster", keras_table / predict_seconds, "x"),
    ]
