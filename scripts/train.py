"""Train a model, export it as a bundle, say how far off it was: see configs/train.yaml."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from launch import asked, launch
from omegaconf import DictConfig, OmegaConf

log = logging.getLogger("train")


def main(config: DictConfig) -> None:
    """Read, replay the past, train, export, score."""
    from ltvnet.correction.corrected import Corrected
    from ltvnet.data.curves import day
    from ltvnet.prediction import bundle
    from ltvnet.reports import run_report

    out = Path(config.out)
    if (out / "checkpoints").exists() and not config.resume:
        raise ValueError(f"{out} holds a run: resume={out} continues it, or set another out")
    source = instantiate(config.data)
    history = source.history()
    origin = day(config.as_of or getattr(source, "origin", history.last_day))
    model, validation = map(OmegaConf.to_container, (config.model, config.validation))
    forecaster = Corrected(base=model, ledger=str(out / "ledger"), **validation)
    forecaster.fit(history, origin)

    run = run_report.Run.of(config.title, forecaster, history, origin, source)
    run.write(out, model)
    run.check(force=config.force)
    about = {"config": {"model": model, "validation": validation}, **run.about()}
    bundle.save(out / "bundle", "corrected", forecaster, run.curves, about)
    log.info("%s\nreport: %s", run.as_text(), out / "report.html")
    data = asked("data") or "data.path=Files"
    log.info("next: python scripts/predict.py bundle=%s/bundle %s out=.", out, data)


if __name__ == "__main__":
    launch(main, "train")
