"""Files appear whole or not at all, folders have one owner, addresses show no passwords."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltvnet import storage
from ltvnet.storage import (
    LOCK_FILE,
    atomic_write,
    explain_damage,
    lock_folder,
    mask_passwords,
    report_event_errors_once,
)


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


@given(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1))
def test_no_password_is_shown_in_part(password: str) -> None:
    """Whatever it holds, an @ that was not escaped, a slash or a colon."""
    for end in ("host/base", "host:5432/base?sslmode=require", "h1:1,h2:2/base"):
        shown = mask_passwords(f"got postgresql+psycopg://me:{password}@{end}: closed")
        assert shown == f"got postgresql+psycopg://me:***@{end}: closed"


HOLDER = (
    "import sys; from pathlib import Path; from ltvnet.storage import lock_folder\n"
    "with lock_folder(Path(sys.argv[1]), 'train.py'):\n"
    "    print('locked', flush=True); sys.stdin.read()"
)
"""A process that keeps a folder until its input ends."""


def start_holder(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(folder)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    return process


@pytest.fixture(params=["locks of the system", "files alone"])
def kind_of_lock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Windows has no fcntl."""
    if request.param == "files alone":
        monkeypatch.setattr(storage, "fcntl", None)
    return str(request.param)


@pytest.mark.usefixtures("kind_of_lock")
def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    holder = start_holder(folder)
    with pytest.raises(ValueError, match="got .*a, in which process") as refusal:
        with lock_folder(folder, "predict.py"):
            raise AssertionError
    message = str(refusal.value)
    assert f"process {holder.pid} on " in message and "(train.py, since 2" in message

    holder.communicate("")
    assert list(folder.iterdir()) == []
    with lock_folder(folder, "predict.py"):
        assert [path.name for path in folder.iterdir()] == [LOCK_FILE]
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("kind_of_lock")
def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    holder.kill()
    holder.communicate()
    assert (tmp_path / LOCK_FILE).exists()
    with lock_folder(tmp_path, "train.py"):
        assert f'"pid": {os.getpid()}' in (tmp_path / LOCK_FILE).read_text()


@pytest.mark.usefixtures("kind_of_lock")
def test_an_error_gives_a_folder_back(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), lock_folder(tmp_path, "train.py"):
        raise RuntimeError
    with lock_folder(tmp_path, "train.py"):
        pass


def test_a_lock_of_another_machine_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody here can tell whether its process runs; the message says what to remove."""
    monkeypatch.setattr(storage, "fcntl", None)
    owner = '{"pid": 1, "host": "elsewhere", "since": "2026-01-01", "purpose": "train.py"}'
    (tmp_path / LOCK_FILE).write_text(owner)
    with pytest.raises(ValueError, match=f"process 1 on elsewhere .*remove .*{LOCK_FILE}"):
        with lock_folder(tmp_path, "train.py"):
            raise AssertionError


def test_of_many_at_once_one_has_the_folder(tmp_path: Path) -> None:
    """Each takes it in turn, again and again, and none meets another there."""
    code = (
        "import sys, os; from pathlib import Path; from ltvnet.storage import lock_folder\n"
        "folder = Path(sys.argv[1]); taken = 0\n"
        "while taken < 50:\n"
        "    try:\n"
        "        with lock_folder(folder, 'x'):\n"
        "            os.close(os.open(folder / 'mine', os.O_CREAT | os.O_EXCL))\n"
        "            os.remove(folder / 'mine'); taken += 1\n"
        "    except ValueError: pass"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]


class _AsyncWriterThread(threading.Thread):
    """A thread that is called as TensorBoard's and fails as it does on a full disk."""

    def run(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_one_message_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    with pytest.raises(OSError, match=re.escape(str(tmp_path))), report_event_errors_once(tmp_path):
        thread = _AsyncWriterThread()
        thread.start()
        thread.join()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert told == []

    with report_event_errors_once(tmp_path):  # of other threads all is told as ever
        other = threading.Thread(target=lambda: 1 / 0)
        other.start()
        other.join()
    assert len(told) == 1
