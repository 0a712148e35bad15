"""The growth-rate LSTM in Keras, as it is usually made: python keras_peer.py FOLDER.

Runs where TensorFlow is installed and knows nothing of ltvnet. Reads `settings.json` (units,
dense, dropout, epochs, batch_size, threads, calls, seed) and `windows.npz` (`x` (M, W) and `y`
(M,) to train on, `x_held` and `y_held` to validate); writes `costs.json`: seconds and validation
error of each epoch, seconds of single predict calls, and versions.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Clock(keras.callbacks.Callback):
    """Seconds of training in each epoch, validation left out."""

    def __init__(self) -> None:
        """Begin without any epoch."""
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ANN401, ARG002
        """Start an epoch."""
        self.epoch_start = time.perf_counter()
        self.validating = 0.0

    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ANN401, ARG002
        """Stop the clock."""
        self.test_start = time.perf_counter()

    def on_test_end(self, logs: Any = None) -> None:  # noqa: ANN401, ARG002
        """Go on."""
        self.validating = time.perf_counter() - self.test_start

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ANN401, ARG002
        """Note the epoch."""
        self.seconds.append(time.perf_counter() - self.epoch_start - self.validating)


def main(folder: Path) -> None:
    """Train, validate after each epoch, then predict a window at a time."""
    settings = json.loads((folder / "settings.json").read_text())
    tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(settings["threads"])
    keras.utils.set_random_seed(settings["seed"])
    with np.load(folder / "windows.npz") as file:
        x, y = file["x"], file["y"]
        x_held, y_held = file["x_held"], file["y_held"]

    net = build_net(settings, x.shape[1])
    clock = Clock()
    history = net.fit(
        x[..., None],
        y,
        batch_size=settings["batch_size"],
        epochs=settings["epochs"],
        validation_data=(x_held[..., None], y_held),
        validation_batch_size=4096,
        callbacks=[clock],
        verbose=2,
    )
    costs = {
        "seconds": clock.seconds,
        "errors": history.history["val_loss"],
        "calls": time_calls(net, x_held[: settings["calls"] + 1, :, None]),
        "parameters": net.count_params(),
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }
    (folder / "costs.json").write_text(json.dumps(costs))


def build_net(settings: Any, days: int) -> Any:  # noqa: ANN401 the library has no types
    """Return the compiled network."""
    layers = [keras.Input((days, 1))]
    last_layer = len(settings["units"]) - 1
    for layer, units in enumerate(settings["units"]):
        layers.append(keras.layers.LSTM(units, return_sequences=layer < last_layer))
        layers.append(keras.layers.Dropout(settings["dropout"]))
    layers.append(keras.layers.Dense(settings["dense"], activation="relu"))
    layers.append(keras.layers.Dense(1, activation="softplus"))
    net = keras.Sequential(layers)
    net.compile(optimizer="adam", loss="mse")
    return net


def time_calls(net: Any, windows: Any) -> list[float]:  # noqa: ANN401
    """Return seconds of a predict call for each window but the first, which builds the function."""
    seconds = []
    for row in range(len(windows)):
        start = time.perf_counter()
        net.predict(windows[row : row + 1], verbose=0)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
