"""Files that appear whole or not at all, the folder of configs, and addresses without passwords."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

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
    write of the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")

    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

    if os.name == "posix":  # elsewhere a folder cannot be opened, and renames are durable
        _sync_folder(path.parent)


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


def mask_passwords(text: str) -> str:
    """Replace the password of each database address in a text by ***."""
    return re.sub(r"(://[^:/@\s]*:)[^@\s]*@|(\bpassword=)[^&\s]*", _masked_address, text)


def _masked_address(match: re.Match[str]) -> str:
    """Return what replaces a match of `user:password@` or of `password=`."""
    user, assignment = match.groups()
    return f"{user}***@" if user else f"{assignment}***"
