"""Files appear whole or not at all; addresses are shown without their passwords."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ltvnet.storage import atomic_write, explain_damage, mask_passwords


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
    ],
)
def test_passwords_are_masked(address: str, shown: str) -> None:
    assert mask_passwords(address) == shown


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    """Libraries raise it without a name, or with that of the unfinished file."""
    path = tmp_path / "a.csv"
    for names_unfinished in (False, True):
        with pytest.raises(OSError, match=r"No space left on device: .*a\.csv'$") as caught:
            with atomic_write(path) as unfinished:
                unfinished.write_text("half")
                name = (str(unfinished),) if names_unfinished else ()
                raise OSError(errno.ENOSPC, "Error writing bytes to file", *name)
        assert caught.value.errno == errno.ENOSPC and list(tmp_path.iterdir()) == []


def test_errors_of_other_files_keep_their_name(tmp_path: Path) -> None:
    for error in (OSError(errno.ENOSPC, "full", "b.csv"), OSError(errno.EIO, "reading"), OSError()):
        with pytest.raises(OSError) as caught, atomic_write(tmp_path / "a.csv"):  # noqa: PT011
            raise error
        assert caught.value is error


def test_a_damaged_file_is_named_with_the_way_out() -> None:
    path = Path("runs") / "costs.json"
    for error in (ValueError("Expecting value: line 1\nmore"), KeyError("seconds"), OSError("end")):
        with pytest.raises(
            ValueError, match=r"costs\.json: the file is damaged \(.*\): delete it$"
        ):
            with explain_damage(path, "delete it"):
                raise error
    for missing in (FileNotFoundError("x"), PermissionError("y")):
        with pytest.raises(type(missing)), explain_damage(path, "delete it"):
            raise missing
