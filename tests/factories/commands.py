"""Scripts, run as the command line runs them."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from factories.configs import ROOT


def run_command(command: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A command such as `python scripts/train.py model=lstm`, at the root of the repository."""
    arguments = [sys.executable, *shlex.split(command)[1:], *options]
    environment = os.environ | {"LTVNET_DATA": os.environ.get("LTVNET_DATA", "data")}
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, env=environment)


def run_script(name: str, *options: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """scripts/NAME.py with some options, in a folder."""
    arguments = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *options]
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)


def refusal_of(script: str, *options: str) -> str:
    """The message with which a script refuses its options, after "error: "."""
    process = run_command(f"python scripts/{script}.py", *options)
    assert process.returncode == 2, process.stderr
    assert process.stderr.startswith("error: "), process.stderr
    assert "Traceback" not in process.stderr
    return process.stderr.removeprefix("error: ")


def one_line_refusal_of(script: str, *options: str) -> str:
    """The one line with which a script refuses its options, after "error: "."""
    message = refusal_of(script, *options)
    assert message.count("\n") == 1
    return message
