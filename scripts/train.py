"""Train a model, export it as a bundle, say how far off it was: see configs/train.yaml."""

import logging
from pathlib import Path

from launch import data_source, launch, model_spec, requested_words, run_context, section
from omegaconf import DictConfig

log = logging.getLogger("train")


def main(config: DictConfig) -> None:
    """Read, replay the past, train, export, score."""
    from ltvnet.correction.walk_forward import ValidationConfig
    from ltvnet.operations.train_model import TrainOptions, train_model

    out = Path(config.out)
    if (out / "checkpoints").exists() and not config.resume:
        raise ValueError(f"{out} holds a run: resume={out} continues it, or set another out")
    options = TrainOptions(title=config.title, as_of=config.as_of, force=config.force)
    trained = train_model(
        data_source(config),
        model_spec(config),
        run_context(config, out / "checkpoints"),
        ValidationConfig.from_config(section(config, "validation")),
        options,
        out,
    )
    log.info("%s\nreport: %s", trained.as_text(), out / "report.html")
    data = requested_words("data") or "data.path=Files"
    log.info("next: python scripts/predict.py bundle=%s/bundle %s out=.", out, data)


if __name__ == "__main__":
    launch(main, "train")
