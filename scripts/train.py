"""Train a model, export it as a bundle, and say how far off it was: see configs/train.yaml."""

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

    source = instantiate(config.data)
    history = source.history()
    origin = day(config.as_of or getattr(source, "origin", history.last_day))
    curves, out = history.as_of(origin), Path(config.out)
    model = OmegaConf.to_container(config.model)
    forecaster = create(model).fit(curves)

    truth = source.truth() if hasattr(source, "truth") else None
    outcome = report.outcome(forecaster, history, curves, truth)
    scores = report.write_run(out, outcome, forecaster, history, model)
    about = {"as_of": str(origin), "data": bundle.fingerprint(curves), "config": model}
    about["scores"] = scores.to_dict("records")
    bundle.save(out / "bundle", config.model.name, forecaster, about)
    log.info("%s", report.as_text(scores, origin, outcome.known))
    log.info("next:\n  python scripts/predict.py bundle=%s data.path=Files", out / "bundle")
    log.info("  tensorboard --logdir %s", out.parent)


if __name__ == "__main__":
    launch(main, "train")
