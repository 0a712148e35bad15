"""Files appear whole or not at all; addresses are shown without their passwords."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltvnet.storage import atomic_write, mask_passwords


def test_a_block_left_by_an_error_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "out" / "a.csv") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list((tmp_path / "out").iterdir()) == []


def test_an_error_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_killed_process_leaves_no_file_and_the_next_write_removes_its_rest(
    tmp_path: Path,
) -> None:
    path = tmp_path / "[MKT] a.csv"
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from ltvnet.storage import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
    assert list(tmp_path.iterdir()) == [path]


def test_two_may_write_the_same_file(tmp_path: Path) -> None:
    """Files that a living process has begun are left alone; the last that ends is kept."""
    path = tmp_path / "a.csv"
    other = tmp_path / f".a.csv.{os.getppid()}.part"
    other.write_text("of another")
    with atomic_write(path) as temporary:
        temporary.write_text("mine")
    assert path.read_text() == "mine" and other.read_text() == "of another"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:se:cr/t@host/base", "postgresql://me:***@host/base"),
        ("postgresql://:secret@host", "postgresql://:***@host"),
        (
            "postgresql://host/base?password=secret&user=me",
            "postgresql://host/base?password=***&user=me",
        ),
        ("host=h password=secret dbname=b", "host=h password=*** dbname=b"),
        ("sqlite:///sweep.db", "sqlite:///sweep.db"),
        ("two of them: a://b:c@d and e://f:g@h", "two of them: a://b:***@d and e://f:***@h"),
        ("postgresql://u:p@ss@host/db", "postgresql://u:***@host/db"),
        ("postgresql://u:@@@host/db", "postgresql://u:***@host/db"),
        ("postgresql://u:p/a?b#c@d@host/db", "postgresql://u:***@host/db"),
        ("postgresql://u:a b@c d@host/db", "postgresql://u:***@host/db"),
        ("postgresql://me@firm:secret@host/db", "postgresql://me@firm:***@host/db"),
        ("postgresql://u:p@ss@host:5432/db: no route", "postgresql://u:***@host:5432/db: no route"),
        ("postgresql://u:a@b@c,e://f:g@h", "postgresql://u:***@h"),
        ("host=h password='it\\'s a b' dbname=d", "host=h password=*** dbname=d"),
        ("sslpassword=one&Password=two&PWD = three", "sslpassword=***&Password=***&PWD = ***"),
        ("postgresql://host:5432/db", "postgresql://host:5432/db"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
    ],
)
def test_passwords_are_masked(address: str, shown: str) -> None:
    assert mask_passwords(address) == shown


@given(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1))
def test_no_password_is_shown_in_part(password: str) -> None:
    """Whatever it holds, an @ that was not escaped, a slash or a colon."""
    for end in ("host/base", "host:5432/base?sslmode=require", "h1:1,h2:2/base"):
        shown = mask_passwords(f"got postgresql+psycopg://me:{password}@{end}: closed")
        assert shown == f"got postgresql+psycopg://me:***@{end}: closed"
