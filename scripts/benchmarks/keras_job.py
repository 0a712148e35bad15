"""The growth-rate LSTM here and in Keras, on the same windows: what=keras.

Both learn the next day's growth rate with nets of the same layers; then both roll a table out, day
by day. Keras predicts a window a call, as it is usually done.

Shapes: N cohorts, M windows, W days of a window.
"""

import hashlib
import json
import logging
import subprocess
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
from targets import Measurement

if TYPE_CHECKING:
    from ltvnet.data.curves import Curves
    from ltvnet.models.baselines.growth_lstm import GrowthLSTM, GrowthRateNet

log = logging.getLogger("benchmark")

PEER = Path(__file__).resolve().parent / "keras_peer.py"

WEEK = 7
"""Age from which the table is forecast."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Windows:
    """What to learn from, and what is held out: windows (M, W) and the rates that followed (M,)."""

    x: Floats
    y: Floats
    x_held: Floats
    y_held: Floats


def lines(config: DictConfig) -> list[Measurement]:
    """Time to Keras' last validation error, and to the table, of both.

    `config.keras`: `cohorts` with most users, `days` of the table, `windows` of them and the
    share `held` out; `overrides` of configs/train.yaml; `repeats` of ours.
    """
    from ltvnet.forecasting.registry import create_forecaster

    chosen = config.keras
    job = compose("train", ["model=growth_lstm", *chosen.overrides])
    job.out = config.out
    spec, context = model_spec(job), run_context(job, None)
    source = instantiate(job.data)
    curves = largest(source.history().as_of(source.origin), chosen.cohorts, WEEK + chosen.days)
    drawn = split(curves, chosen.windows, chosen.held, job.seed)
    theirs = trained(config, spec.arguments["net"], drawn)
    fits = [
        reached(create_forecaster(spec, replace(context, seed=seed)), drawn, theirs["errors"][-1])
        for seed in range(chosen.repeats)
    ]
    fitted = create_forecaster(spec, context).fit(curves)
    tables = [tabled(fitted, curves.cut(WEEK), chosen.days) for _ in range(chosen.repeats)]
    return compared(theirs, fits, tables, len(curves) * chosen.days)


def largest(curves: "Curves", count: int, age: int) -> "Curves":
    """The cohorts with most users of those observed to an age.

    Rates of tiny cohorts grow a hundredfold by chance, and the error is then of a few of them.
    Raises ValueError where there are not as many.
    """
    old = np.flatnonzero(curves.observed_age >= age)
    if len(old) < count:
        raise ValueError(f"expected {count} cohorts observed to D{age}, got {len(old)}")
    order = np.argsort(-curves.users[old], kind="stable")
    return curves.take(np.sort(old[order[:count]]))


def split(curves: "Curves", count: int, held: float, seed: int) -> Windows:
    """So many windows of curves at random, a share of them held out.

    Raises ValueError where there are not as many.
    """
    from ltvnet.models.baselines.growth_lstm import training_windows

    x, y = training_windows(curves.values, curves.observed_age)
    if len(y) < count:
        raise ValueError(f"expected {count} windows, got {len(y)}")
    rows = np.random.default_rng(seed).permutation(len(y))[:count]
    aside, kept = np.split(rows, [round(held * count)])
    return Windows(x[kept], y[kept], x[aside], y[aside])


def trained(config: DictConfig, net: Mapping[str, Any], drawn: Windows) -> dict[str, Any]:
    """What Keras took: seconds and errors of epochs, seconds of calls, parameters, versions.

    It is kept in `out` as long as it is of exactly these windows and settings.
    """
    chosen, folder = config.keras, Path(config.out) / "keras"
    python = library_python(chosen, Path(config.out))
    folder.mkdir(parents=True, exist_ok=True)
    single = {name: part.astype(np.float32) for name, part in vars(drawn).items()}
    np.savez(folder / "windows.npz", **single)
    settings = {name: chosen[name] for name in ("epochs", "batch_size", "threads", "calls")}
    (folder / "settings.json").write_text(json.dumps({**settings, **net, "seed": 0}))
    text, finished = stamp(folder), folder / "stamp"
    if not finished.exists() or finished.read_text() != text:
        with (folder / "peer.log").open("w") as file:
            command = [python, PEER, folder]
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise ValueError(f"expected a fit of Keras, got none: see {file.name}")
        finished.write_text(text)
    costs: dict[str, Any] = json.loads((folder / "costs.json").read_text())
    took, error = sum(costs["seconds"]), costs["errors"][-1]
    log.info("Keras %s: %.0f s to error %.4g", costs["versions"], took, error)
    return costs


def stamp(folder: Path) -> str:
    """SHA-256 of all that the fit of Keras in a folder depends on."""
    inputs = (folder / "settings.json", folder / "windows.npz", PEER)
    return "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs)


def reached(model: "GrowthLSTM", drawn: Windows, error: float) -> float:
    """Seconds of training to a validation error (infinite: never), validation left out."""
    begun, aside = time.perf_counter(), 0.0
    seconds, errors = [], []

    def watch(net: "GrowthRateNet") -> None:
        nonlocal aside
        now = time.perf_counter()
        seconds.append(now - begun - aside)
        errors.append(validated(net, drawn))
        aside += time.perf_counter() - now

    model.train_net(drawn.x, drawn.y, watch)
    told = [f"{s:.1f} s {e:.4g}" for s, e in zip(seconds, errors, strict=True)]
    log.info("growth_lstm, validation error: %s", ", ".join(told))
    met = np.flatnonzero(np.array(errors) <= error)
    return seconds[met[0]] if len(met) else np.inf


def validated(net: "GrowthRateNet", drawn: Windows) -> float:
    """Mean squared error of the rates held out, without dropout."""
    import torch

    net.eval()
    with torch.inference_mode():
        said = net(torch.from_numpy(drawn.x_held.astype(np.float32))).numpy()
    net.train()
    return float(np.square(said - drawn.y_held).mean())


def tabled(model: "GrowthLSTM", curves: "Curves", days: int) -> tuple[float, float]:
    """Seconds of the net's table of the days after the observed ones, and of all of predict."""
    from ltvnet.models.baselines.growth_lstm import roll_out

    assert model.net is not None
    ages = range(WEEK + 1, WEEK + days + 1)
    begun = time.perf_counter()
    roll_out(model.net, curves, ages)
    between = time.perf_counter()
    model.predict(curves, ages)
    return between - begun, time.perf_counter() - between


def compared(
    theirs: Mapping[str, Any],
    fits: Sequence[float],
    tables: Sequence[tuple[float, float]],
    cells: int,
) -> list[Measurement]:
    """Lines of what Keras took (see `trained`) and of what `reached` and `tabled` gave.

    All of its epochs take as long as their median: some are disturbed.
    """
    epochs, errors = len(theirs["seconds"]), theirs["errors"]
    epoch, own = float(np.median(theirs["seconds"])), float(np.median(fits))
    first = 1 + int(np.argmax(np.array(errors) <= errors[-1]))
    took, begun = epochs * epoch, first * epoch
    call = float(np.median(theirs["calls"]))
    rolled, predicted = np.median(tables, axis=0)
    calls = f"{cells:,} calls from {len(theirs['calls'])}"
    return [
        Measurement(f"Keras, {epochs} epochs, validation error {errors[-1]:.4g}", took, "s"),
        Measurement(f"Keras, until it first had that error, after {first}", begun, "s"),
        Measurement("growth_lstm, until it has that error", own, "s"),
        Measurement(
            f"growth_lstm sooner than {epochs} epochs of Keras",
            took / own,
            "x",
            20,
            is_minimum=True,
        ),
        Measurement("growth_lstm sooner than Keras first", begun / own, "x"),
        Measurement("Keras, a predict call", 1000 * call, "ms"),
        Measurement(f"Keras, table of {cells:,}, extrapolated to {calls}", call * cells, "s"),
        Measurement(f"growth_lstm, table of {cells:,}", rolled, "s"),
        Measurement("growth_lstm, table faster", call * cells / rolled, "x", 5000, is_minimum=True),
        Measurement("growth_lstm, all of predict, faster", call * cells / predicted, "x"),
    ]
