"""Every YAML file is built, and what it sets stands nowhere else."""

import dataclasses
import os
from typing import Any

import pytest
from factories.configs import CONFIGS, compose_config
from factories.models import make_forecaster
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ltvnet.backtesting.origins import ReplayPlan
from ltvnet.backtesting.scores import SCORED_AGES
from ltvnet.correction.walk_forward import StageSwitches, ValidationConfig
from ltvnet.data.cohort_tables import Files
from ltvnet.data.source import DataSource
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.forecasting.run_context import HardwareConfig
from ltvnet.models.neural.forecaster import NETS
from ltvnet.models.neural.training_config import TrainingConfig
from ltvnet.prediction.batch import OutputOptions
from ltvnet.tuning.search_space import SearchSpace
from ltvnet.tuning.study import StudySettings


def config_names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def resolve_config(config: DictConfig) -> dict[str, Any]:
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return values


def test_every_file_is_met_here() -> None:
    groups = {path.name for path in CONFIGS.iterdir() if path.is_dir()}
    assert groups == {"data", "model", "space", "trainer", "validation"}
    top = {path.stem for path in CONFIGS.glob("*.yaml")}
    names = {
        "run",
        "train",
        "backtest",
        "benchmark",
        "predict",
        "prepare",
        "simulate",
        "sweep",
        "check",
    }
    assert top == names


@pytest.mark.parametrize(
    "model", [name for name in config_names("model") if not name.startswith("_")]
)
def test_models_are_built(model: str) -> None:
    config = resolve_config(compose_config("train", f"model={model}").model)
    spec = ModelSpec.from_config(config)
    assert all(make_forecaster(model.as_config()) is not None for model in spec.models.values())


def test_what_nets_share_lacks_the_net() -> None:
    assert OmegaConf.is_missing(compose_config("train", "model=_neural").model, "net")


@pytest.mark.parametrize("net", NETS)
def test_training_settings_are_built(net: str) -> None:
    training = compose_config("train", f"model={net}").model.training
    assert TrainingConfig(**training).epochs >= 1


def test_the_mixture_has_its_bases_as_they_are_alone() -> None:
    """Then their past forecasts are found in the ledger, and not made again."""
    best = resolve_config(compose_config("train", "model=best").model)["bases"]
    pattern = resolve_config(compose_config("train", "model=pattern").model)
    alone = {"departure": "boosting_departure"}
    for name, base in best.items():
        config = resolve_config(compose_config("train", f"model={alone.get(name, name)}").model)
        shared = {"pattern": pattern}
        assert base | shared == config | shared and base["pattern"] == pattern


@pytest.mark.parametrize("trainer", config_names("trainer"))
def test_trainers_are_built(trainer: str) -> None:
    assert HardwareConfig(**compose_config("train", f"trainer={trainer}").trainer).threads >= 1


@pytest.mark.parametrize("validation", config_names("validation"))
def test_validations_are_built(validation: str) -> None:
    config = resolve_config(compose_config("train", f"validation={validation}").validation)
    forecaster = ValidationConfig.from_config(config)
    assert (forecaster.origins > 0) == (validation != "none")


def test_a_backtest_is_built() -> None:
    config = resolve_config(compose_config("backtest"))
    plan = ReplayPlan(
        **{name: config[name] for name in ("window", "refit", "ages", "warm", "workers")}
    )
    learning = compose_config("train").validation.learning
    assert set(SCORED_AGES) <= set(plan.ages) and plan.folds_per_fit == 1
    assert StageSwitches(**config["learning"]) == StageSwitches(**learning)
    assert set(config["origins"]) == {"every", "first", "last", "dates"}


@pytest.mark.parametrize("data", config_names("data"))
def test_data_are_built(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTVNET_DATA", os.environ.get("LTVNET_DATA", "nowhere"))
    config = compose_config("train", f"data={data}").data
    if OmegaConf.is_missing(config, "path"):
        config.path = "table.csv"
    source = instantiate(config)
    assert isinstance(source, DataSource)


def test_the_defaults_of_files_stand_once() -> None:
    """`ltvnet.read` has the defaults of the YAML."""
    config = resolve_config(compose_config("predict", "bundle=b", "data.path=table.csv"))["data"]
    assert config.pop("_target_") == "ltvnet.data.cohort_tables.Files"
    assert config["format"].pop("_target_").endswith(".TableFormat")
    defaults = dataclasses.asdict(Files(path="table.csv"))
    assert config == {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}


def test_predict_tables_are_built() -> None:
    config = compose_config("predict", "bundle=b", "data.path=table.csv")
    tables = OutputOptions(config.wide, list(config.ages), config.by, config.ledger)
    assert tables.ages[0] == 1 and tables.ages[-1] == 360


@pytest.mark.parametrize(
    "model", [name for name in config_names("model") if not name.startswith("_")]
)
def test_every_model_has_a_space_that_holds_its_defaults(model: str) -> None:
    config = resolve_config(compose_config("sweep", f"model={model}", "title=t", "sweep.study=s"))
    space = SearchSpace.parse(config["space"], config)
    assert len(space) and all(dimension.key.startswith("model.") for dimension in space.dimensions)
    assert (
        StudySettings(**{k: v for k, v in config["sweep"].items() if k != "held_out"}).workers == 1
    )


@pytest.mark.parametrize("name", ["train", "backtest", "predict", "prepare", "simulate", "sweep"])
def test_scripts_share_where_they_write_and_their_seed(name: str) -> None:
    config = compose_config(name)
    assert config.seed == 0 and config.debug is False


def test_a_net_takes_the_values_of_pattern_yaml() -> None:
    net = compose_config("train", "model=lstm").model.pattern
    assert net == compose_config("train", "model=pattern").model
