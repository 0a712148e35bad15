"""The command `ltvnet SCRIPT WORDS`, which a wheel installs: the scripts without a checkout."""

import sys
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
NO_SCRIPTS = ("entry", "launch", "__init__")


def main() -> None:
    """Run the script that the first word names, with the words after it."""
    scripts = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in NO_SCRIPTS)
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        sys.stdout.write(f"ltvnet SCRIPT WORDS, with SCRIPT out of {', '.join(scripts)}\n")
        sys.stdout.write("ltvnet SCRIPT --help says what each does.\n")
        return
    if name not in scripts:
        sys.stderr.write(f"error: expected ltvnet SCRIPT out of {', '.join(scripts)}, got {name}\n")
        sys.exit(2)

    sys.argv = [f"ltvnet {name}", *sys.argv[2:]]
    sys.path.insert(0, str(FOLDER))  # where scripts find what they share
    import_module("launch").launch(import_module(name).main, name)


if __name__ == "__main__":
    main()
