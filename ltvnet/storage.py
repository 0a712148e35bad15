"""Files that appear whole or not at all, and addresses without their passwords."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write to, beside `path`, which becomes `path` once the block ends without error.

    The folder is made where missing. After an error nothing of the new file stays and an older
    file of that name is as it was; what a killed process left behind is removed by the next
    write of the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{escape(path.name)}.*.part"):
        if not _alive(int(leftover.name.split(".")[-2])):  # another may write the same
            leftover.unlink(missing_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened, and renames are durable
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def _alive(process: int) -> bool:
    """Whether a process is there, on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def mask_passwords(text: str) -> str:
    """A text with the address of a database in it, without its password."""
    return re.sub(r"(://[^:/@\s]*:)[^@\s]*@|(\bpassword=)[^&\s]*", _hidden, text)


def _hidden(found: re.Match[str]) -> str:
    return f"{found[1]}***@" if found[1] else f"{found[2]}***"
