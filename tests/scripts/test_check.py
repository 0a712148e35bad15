"""scripts/check.py says what is in a file and what to run next."""

from pathlib import Path

import pandas as pd
import pytest
from factories.cohorts import weekly_history
from factories.commands import run_script

from ltvnet.data.cohort_tables import write_cohorts


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A cohort table in a folder with a blank in its name."""
    path = tmp_path / "my exports" / "cohorts_2024_02_01.csv"
    write_cohorts(weekly_history(30).as_of("2024-02-01"), path)
    return path


def test_a_clean_file(table: Path, tmp_path: Path) -> None:
    process = run_script("check", f"data.path={table}", f"out={tmp_path / 'out'}")
    assert process.returncode == 0, process.stderr
    assert "cohorts     60, each of a week" in process.stdout
    assert "nothing odd was found" in process.stdout
    following = process.stdout.splitlines()[-1]
    assert following.startswith("next: python ")
    assert f"'data.path={table}'" in following


def test_an_odd_file_is_told_of_and_a_broken_one_refused(table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table)
    frame.assign(Users=frame["Users"] / 1000).to_csv(table, index=False)
    process = run_script("check", f"data.path={table}", f"out={tmp_path / 'out'}")
    assert process.returncode == 0, process.stderr
    assert "WARNING: users:" in process.stdout

    table.write_text("Date,day_0\nnever,1\n")
    process = run_script("check", f"data.path={table}", f"out={tmp_path / 'out'}")
    assert process.returncode == 2
    assert "Traceback" not in process.stderr


def test_data_that_are_refused_end_with_a_code_of_their_own(table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table)
    frame.copy().assign(Spend=frame["Users"] * 1e6).to_csv(table, index=False)
    process = run_script("check", f"data.path={table}", f"out={tmp_path / 'out'}")
    assert process.returncode == 4, process.stderr
    assert "REFUSAL: revenue and spend:" in process.stdout
    assert process.stdout.splitlines()[-1].startswith("next: mend what is marked REFUSAL")
    assert not (tmp_path / "out").exists()
