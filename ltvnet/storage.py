"""Files that appear whole or not at all, folders of one run, addresses without their passwords.

Also where the configs are.
"""

import errno
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from glob import escape
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has other locks
    fcntl = None  # type: ignore[assignment]

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of writing, which libraries raise without saying where."""

DAMAGE_ERRORS = (ValueError, LookupError, TypeError, AttributeError, NotImplementedError, OSError)
"""Errors of reading JSON or Parquet that is cut off or of another kind, Arrow's included."""
LOCK_FILE = ".ltvnet.lock"
"""Name of the file in a folder that says which process writes there."""

_PACKAGE = Path(__file__).resolve().parent


def configs_folder() -> Path:
    """Return the folder of the YAML files: beside the package in a checkout, inside in a wheel."""
    inside_wheel = _PACKAGE / "configs"
    return inside_wheel if inside_wheel.is_dir() else _PACKAGE.parent / "configs"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to, beside `path`, that becomes `path` once the block ends well.

    The folder is made where missing. After an error nothing of the new file stays and an older
    file of that name is as it was; what a killed process left behind is removed by the next
    write of the same file. Raises OSError that names the file where its disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")

    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in DISK_ERRORS and error.filename in (None, str(temporary)):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)

    if os.name == "posix":  # elsewhere a folder cannot be opened, and renames are durable
        _sync_folder(path.parent)


@contextmanager
def explain_damage(path: Path, way_out: str) -> Iterator[None]:
    """Turn the error of reading a damaged file into a ValueError that names it and the way out.

    A file that is not there, or may not be read, is not damaged: its error is raised as it is.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except DAMAGE_ERRORS as error:
        problem = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: the file is damaged ({problem}): {way_out}") from error


@contextmanager
def report_event_errors_once(folder: Path) -> Iterator[None]:
    """Keep errors of the threads that write TensorBoard's events to `folder` to one message.

    Such an error is raised where the next event is written, too; here it gets the path that it
    lacks, and the thread's own traceback is left out.
    """
    usual_hook = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        is_event_writer = type(arguments.thread).__name__ == "_AsyncWriterThread"
        if not (is_event_writer and issubclass(arguments.exc_type, OSError)):
            usual_hook(arguments)

    threading.excepthook = hook
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(folder)) from error
        raise
    finally:
        threading.excepthook = usual_hook


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose process is gone: another may write the same file."""
    for leftover in path.parent.glob(f".{escape(path.name)}.*.part"):
        process_id = int(leftover.name.split(".")[-2])
        if not _is_running(process_id):
            leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Write the entries of a folder to disk, so that a rename outlives a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _is_running(process_id: int) -> bool:
    """Return whether a process of this machine is running."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def lock_folder(folder: Path, purpose: str) -> Iterator[None]:
    """Keep a folder for this process alone; it is made where missing, `purpose` is told to others.

    A lock ends with its process, however that ends. Raises ValueError that names the process in
    whose hands the folder is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    descriptor = _take_system_lock(path) if fcntl is not None else None
    if descriptor is None:
        descriptor = _take_file_lock(path)

    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(" ", "seconds"),
        "purpose": purpose,
    }
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(owner).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take_system_lock(path: Path) -> int | None:
    """Open a file under a lock of the operating system; None on a disk that has no locks.

    Raises ValueError where another process holds it.
    """
    while True:
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # its last owner may have removed the file after we opened it
            if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise _owner_error(path, _read_owner(path)) from None
        except OSError:
            os.close(descriptor)
            if is_new:
                path.unlink(missing_ok=True)
            return None
        os.close(descriptor)


def _take_file_lock(path: Path) -> int:
    """Make a file that says by its presence that a folder is in use.

    Raises ValueError where it is there and its process is running, or is of another machine.
    """
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            owner = _read_owner(path)
        is_ours = owner.get("host") == socket.gethostname()
        if not is_ours or _is_running(int(owner["pid"])):
            raise _owner_error(path, owner)
        path.unlink(missing_ok=True)


def _read_owner(path: Path) -> dict[str, str]:
    """Read who holds a lock; nothing where it was not written yet, or is gone."""
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {key: str(value) for key, value in owner.items()}


def _owner_error(path: Path, owner: dict[str, str]) -> ValueError:
    """Return the error that names the process in whose hands a folder is."""
    process = "another process"
    if owner:
        process = (
            f"process {owner['pid']} on {owner['host']} ({owner['purpose']}, since "
            f"{owner['since']})"
        )
    return ValueError(
        f"expected a folder in which no other run writes, got {path.parent}, in which {process} "
        f"does: wait until it has ended, or set another out (if there is no such process, remove "
        f"{path})"
    )


_USER_AND_PASSWORD = r"(://[^:/\s]*:)(?:(?!\s\S*://)[^\n])*@"
"""A password reaches to the last @ before another address: it may hold @, / and blanks itself."""

_PASSWORD_OPTION = r"(\b\w*(?:password|passwd|pwd)\s*=\s*)('(?:\\.|[^'\\])*'|[^&\s]*)"


def mask_passwords(text: str) -> str:
    """Replace the password of each database address in a text by ***.

    Where it is not clear where a password ends, rather more than it is hidden.
    """
    pattern = f"{_USER_AND_PASSWORD}|{_PASSWORD_OPTION}"
    return re.sub(pattern, _masked_address, text, flags=re.IGNORECASE)


def _masked_address(match: re.Match[str]) -> str:
    """Return what replaces a match of `user:password@` or of `password=`."""
    user, assignment = match[1], match[2]
    return f"{user}***@" if user else f"{assignment}***"
