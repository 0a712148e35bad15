"""Train a model, export it as a bundle, say how far off it was: see configs/train.yaml."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from launch import launch
from omegaconf import DictConfig, OmegaConf

log = logging.getLogger("train")


def main(config: DictConfig) -> None:
    """Read, train, export, score."""
    from ltvnet import bundle, report
    from ltvnet.curves import day
    from ltvnet.forecasting import create
    from ltvnet.simulate import oracle

    out = Path(config.out)
    if (out / "checkpoints").exists() and not config.resume:
        raise ValueError(f"{out} holds a run: resume={out} continues it, or set another out")
    source = instantiate(config.data)
    history = source.history()
    origin = day(config.as_of or getattr(source, "origin", history.last_day))
    curves = history.as_of(origin)
    model = OmegaConf.to_container(config.model)
    forecaster = create(model).fit(curves)

    truth = oracle(source.truth(), curves) if hasattr(source, "truth") else None
    outcome = report.outcome(forecaster, history, curves, truth)
    scores = report.write_run(out, outcome, forecaster, history, model)
    about = {"config": model, "scores": scores.to_dict("records")}
    bundle.save(out / "bundle", config.model.name, forecaster, curves, about)
    log.info(report.as_text(scores, origin, outcome.known))
    log.info("next: python scripts/predict.py bundle=%s/bundle data.path=Files out=.", out)


if __name__ == "__main__":
    launch(main, "train")
