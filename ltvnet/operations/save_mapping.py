"""Keep how tables were understood as a config of data: what `scripts/check.py save=NAME` does."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ltvnet.data.cohort_tables import Files
from ltvnet.data.importers.table_format import TableFormat
from ltvnet.data.source import DataSource
from ltvnet.operations.configuration import load_config
from ltvnet.storage import atomic_write, configs_folder

NOT_SAVED = ("path", "snapshot", "expected", "cost")
"""Options that name one file or its day, and not how files are written."""


def save_mapping(name: str, source: DataSource, folder: Path | None = None) -> Path:
    """Write a config that reads tables as those of a source were understood; return its path.

    It is NAME.yaml in `folder` (None: configs/data), so that `data=NAME data.path=FILE` reads
    further tables; a source that is a folder is in it too. Raises ValueError for a name that is no
    name of a config or is in use, a source that is no tables of cohorts, and where these are not
    understood.
    """
    path = (folder or configs_folder() / "data") / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(f"expected save=NAME of letters, digits and underscores, got {name!r}")
    if not isinstance(source, Files):
        raise ValueError(  # noqa: TRY004 the user named the wrong source
            "expected cohort tables on disk, as data=files has, to save their mapping"
        )
    if path.exists():
        raise ValueError(f"{path}: expected a new name in save=NAME, got one in use")

    values: dict[str, Any] = {"defaults": ["files", "_self_"]}
    if Path(source.path).expanduser().is_dir():
        values["path"] = str(Path(source.path).expanduser().resolve())
    values |= _changed_options(source.spell_out())
    lines = [
        f"# Tables written as {Path(source.path).name} is: data={name} reads them in all commands.",
        "# Made by scripts/check.py; change it where it is not right.",
        OmegaConf.to_yaml(OmegaConf.create(values)),
    ]
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    return path


def _changed_options(source: Files) -> dict[str, Any]:
    """Return the options of a source that differ from configs/data/files, but those of one file."""
    default = load_config("data", "files")
    options: dict[str, Any] = {}
    for field in fields(source):
        if field.name in NOT_SAVED:
            continue
        value = _plain_value(getattr(source, field.name))
        usual = default[field.name]
        if isinstance(value, dict) and isinstance(usual, dict):
            value = {key: word for key, word in value.items() if word != usual[key]}
            usual = {}
        if value != usual:
            options[field.name] = value
    return options


def _plain_value(value: object) -> object:
    """Return a value of an option as YAML has it; an empty mapping is None."""
    if isinstance(value, TableFormat):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain_value(cell) for key, cell in value.items()} or None
    if isinstance(value, str) or not isinstance(value, Sequence):
        return value
    return list(value)
