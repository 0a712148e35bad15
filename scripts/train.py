"""Train a model, export it as a bundle, say how far off it was: see configs/train.yaml."""

import logging
from pathlib import Path

from command_line.next_lines import predict_command
from launch import data_source, launch, model_spec, plain, run_context, section
from omegaconf import DictConfig

TRAIN_KEYS = ("title", "as_of", "force")
"""Keys of configs/train.yaml that are those of TrainOptions."""

log = logging.getLogger("train")


def main(config: DictConfig) -> None:
    """Read, replay the past, train, export, score."""
    from ltvnet.correction.walk_forward import ValidationConfig
    from ltvnet.forecasting.typed_config import settings_from
    from ltvnet.operations.train_model import TrainOptions, refuse_other_run, train_model

    out = Path(config.out)
    if not config.resume:
        refuse_other_run(out)
    options = settings_from(TrainOptions, {key: config[key] for key in TRAIN_KEYS}, "")
    trained = train_model(
        data_source(config),
        model_spec(config),
        run_context(config, out / "checkpoints"),
        ValidationConfig.from_config(section(config, "validation")),
        options,
        out,
    )
    log.info("%s\nreport: %s", trained.as_text(), out / "report.html")
    if following := predict_command(out, plain(config.data, resolve=True)):
        log.info("next: %s", following)


if __name__ == "__main__":
    launch(main, "train")
