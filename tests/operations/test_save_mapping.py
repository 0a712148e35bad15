"""A mapping that was saved reads the same tables alike, without guessing."""

from pathlib import Path

import numpy as np
import pytest
from factories.exports import EXPORT_DAY, LAYOUTS, appsflyer_cohort, write_table
from factories.odd_exports import ODD_EXPORTS
from factories.simulations import PLAIN
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import History
from ltvnet.data.importers.table_format import TableFormat
from ltvnet.operations.save_mapping import save_mapping
from ltvnet.storage import configs_folder


def assert_same_history(first: History, second: History) -> None:
    for name in ("start", "end", "users", "spend", "values"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.index.equals(second.index)
    assert (first.lag_days, first.hierarchy) == (second.lag_days, second.hierarchy)


def configs_with(folder: Path) -> Path:
    """A copy of configs/data, to which a mapping may be added."""
    target = folder / "configs" / "data"
    target.mkdir(parents=True)
    (target / "files.yaml").write_bytes((configs_folder() / "data" / "files.yaml").read_bytes())
    return target


def read_by_mapping(folder: Path, name: str, *words: str) -> History:
    """Read by `data=NAME`, as a command does."""
    with initialize_config_dir(config_dir=str(folder.parent), version_base=None):
        config = compose(overrides=[f"+data={name}", *words])
    source = instantiate(config.data)
    assert isinstance(source, Files)
    return source.history()


@pytest.mark.parametrize("name", [*LAYOUTS, *ODD_EXPORTS])
def test_a_saved_mapping_reads_the_same(name: str, tmp_path: Path) -> None:
    writer = LAYOUTS[name] if name in LAYOUTS else ODD_EXPORTS[name]
    (tmp_path / "files").mkdir()
    source = Files(path=writer.write(tmp_path / "files"))
    folder = configs_with(tmp_path)
    save_mapping("mine", source, folder)
    history = read_by_mapping(folder, "mine", f"data.path='{source.path}'")
    assert_same_history(history, source.history())


def test_what_few_cohorts_do_not_tell_is_known(tmp_path: Path) -> None:
    """Next week's export of three campaigns would be asked about."""
    cohorts = LAYOUTS["appsflyer_cohort"].cohorts()
    first, second = tmp_path / f"a_{EXPORT_DAY}.csv", tmp_path / f"b_{EXPORT_DAY}.csv"
    write_table(appsflyer_cohort(cohorts, on_day=True), first)
    few = cohorts.take(np.arange(3))
    write_table(appsflyer_cohort(few, on_day=True), second)
    folder = configs_with(tmp_path)
    save_mapping("mine", Files(path=first, format=TableFormat(values="increment")), folder)

    with pytest.raises(ValueError, match="may be money per user or of the whole cohort"):
        Files(path=second).history()
    history = read_by_mapping(folder, "mine", f"data.path={second}")
    np.testing.assert_array_equal(history.values[:, :181], few.values[:, :181])


def test_a_mapping_is_short_and_says_what_was_understood(tmp_path: Path) -> None:
    source = Files(path=LAYOUTS["adjust"].write(tmp_path), hierarchy=["Source", "Campaign"])
    path = save_mapping("mine", source, tmp_path)
    assert path.read_text().startswith(f"# Tables written as export_{EXPORT_DAY}.csv is")
    assert OmegaConf.to_container(OmegaConf.load(path)) == {
        "defaults": ["files", "_self_"],
        "hierarchy": ["Source", "Campaign"],
        "columns": {
            "Date": "day",
            "Users": "installs",
            "Spend": "network_cost",
            "Source": "network",
            "Campaign": "campaign",
        },
        "format": {
            "preset": "adjust",
            "age_offset": 0,
            "values": "cumulative",
            "per": "cohort",
            "unit": 1.0,
            "day": "rolling24h",
            "zeros": "missing",
            "decimal": "point",
            "dates": "ymd",
        },
    }


def test_a_table_of_ltvnets_own_needs_no_words(tmp_path: Path) -> None:
    path = tmp_path / "cohorts_2024-01-10.csv"
    path.write_text("Date,Campaign,Users,day_0,day_1\n2024-01-01,a,10,1,2\n")
    saved = save_mapping("mine", Files(path=path), tmp_path)
    assert OmegaConf.to_container(OmegaConf.load(saved)) == {"defaults": ["files", "_self_"]}


def test_a_folder_is_in_the_mapping_and_a_file_is_not(tmp_path: Path) -> None:
    folder = configs_with(tmp_path)
    exports = tmp_path / "exports"
    exports.mkdir()
    file = LAYOUTS["adjust"].write(exports)
    save_mapping("of_file", Files(path=file), folder)
    save_mapping("of_folder", Files(path=exports), folder)
    assert "path" not in OmegaConf.load(folder / "of_file.yaml")
    assert_same_history(read_by_mapping(folder, "of_folder"), Files(path=exports).history())


@pytest.mark.parametrize("name", ["files", "portfolio", "simulated"])
def test_a_config_is_never_overwritten(name: str, tmp_path: Path) -> None:
    source = Files(path=LAYOUTS["adjust"].write(tmp_path))
    before = (configs_folder() / "data" / f"{name}.yaml").read_bytes()
    with pytest.raises(ValueError, match="expected a new name in save=NAME, got one in use"):
        save_mapping(name, source)
    assert (configs_folder() / "data" / f"{name}.yaml").read_bytes() == before


@pytest.mark.parametrize("name", ["", "../mine", "a b", "_hidden", "mine.yaml", "내것"])
def test_a_name_that_no_command_line_takes_is_refused(name: str, tmp_path: Path) -> None:
    source = Files(path=LAYOUTS["adjust"].write(tmp_path))
    with pytest.raises(ValueError, match="expected save=NAME of letters, digits"):
        save_mapping(name, source, tmp_path)


def test_a_source_without_tables_has_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected cohort tables on disk"):
        save_mapping("mine", PLAIN, tmp_path)


def test_tables_that_are_not_understood_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cohorts.csv"
    path.write_text("Date,Users,Revenue D0,Revenue D1\n2024-01-01,10,1,2\n")
    with pytest.raises(ValueError, match="may be money per user"):
        save_mapping("mine", Files(path=path), tmp_path)
    assert not (tmp_path / "mine.yaml").exists()
