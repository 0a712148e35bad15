"""Sections of a config become frozen dataclasses: the edge where YAML is read."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

SettingsT = TypeVar("SettingsT")


def settings_from(cls: type[SettingsT], section: Any, path: str) -> SettingsT:  # noqa: ANN401 as YAML has it
    """Make a dataclass of the section of a config at `path`, such as "trainer".

    Raises ValueError for a section that is none, and for keys that it lacks or has too many, or
    what the dataclass itself refuses.
    """
    known = fields(cls)  # type: ignore[arg-type]
    keys = f"expected {path}.KEY with KEY out of {', '.join(field.name for field in known)}"
    if not isinstance(section, Mapping):
        raise ValueError(f"{keys}, got {path}={section}")  # noqa: TRY004 the user wrote it

    unknown = set(section) - {field.name for field in known}
    if unknown:
        raise ValueError(f"{keys}, got {path}.{min(unknown)}")
    for field in known:
        is_required = field.default is MISSING and field.default_factory is MISSING
        if is_required and field.name not in section:
            raise ValueError(f"{keys}, got none of {path}.{field.name}")
    return cls(**section)
