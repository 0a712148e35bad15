"""A model as it is configured: the same spec, data and seed always give the same forecasts.

Where and with which seed a model is fitted is not part of it: see `run_context`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ltvnet.data.fingerprints import Fingerprint

Config = Mapping[str, Any]
"""A config as YAML has it: this and a constructor are the edge, beyond which types are known."""

MIXTURE = "best"
"""Name of a spec that weighs several models, and is no forecaster of its own."""

CONTEXT_KEYS = ("seed", "machine", "folder")
"""Keys that configs of models had before version 0.2: a run has them now, see `RunContext`."""

MOST_MEMBERS = 8
"""Models in a mixture: of more there are too many weights to choose from."""


@dataclass(frozen=True)
class ModelSpec:
    """A model's name in the registry and the arguments of its class.

    `arguments` are plain values as YAML and JSON have them. A mixture is named MIXTURE and has
    `members`, the specs of its models by name, in place of arguments.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, "ModelSpec"] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Read a config of `configs/model`, which is `name` beside the arguments.

        Raises ValueError for a mixture of fewer than two or more than MOST_MEMBERS models, or of
        models on different patterns: the pattern, the reason and the support of its forecasts are
        those of all its members. Also for a key that says where a model runs, and for what is no
        config at all.
        """
        if not isinstance(config, Mapping) or not isinstance(config.get("name"), str):
            raise ValueError(  # noqa: TRY004 the user wrote it
                f"expected a model as name: NAME beside its values, got {config!r}"
            )
        if context_keys := [key for key in CONTEXT_KEYS if key in config]:
            raise ValueError(
                f"expected a model's config without {', '.join(context_keys)}, which stand beside "
                "it since version 0.2: take them out and set seed=, trainer= and out= of the run"
            )
        arguments = {key: value for key, value in config.items() if key != "name"}
        if config["name"] != MIXTURE:
            return cls(config["name"], arguments)

        bases = config.get("bases")
        if not isinstance(bases, Mapping):
            raise ValueError(f"expected bases as NAME: MODEL, got {bases!r}")  # noqa: TRY004
        for name, member in bases.items():
            if not isinstance(member, Mapping) or not isinstance(member.get("name"), str):
                raise ValueError(  # noqa: TRY004
                    f"expected bases.{name} as a model with its name, got {member!r}"
                )
        if others := [key for key in arguments if key != "bases"]:
            raise ValueError(f"expected {MIXTURE} of bases alone, got {', '.join(others)} too")
        members = {name: cls.from_config(member) for name, member in bases.items()}
        if len(members) < 2:
            raise ValueError(f"expected at least two bases, got {', '.join(members) or 'none'}")
        if len(members) > MOST_MEMBERS:
            raise ValueError(f"expected at most {MOST_MEMBERS} bases, got {len(members)}")
        _check_same_pattern(members)
        return cls(MIXTURE, {}, members)

    def as_config(self) -> dict[str, Any]:
        """Return the config that `from_config` reads."""
        if self.name == MIXTURE:
            bases = {name: member.as_config() for name, member in self.members.items()}
            return {"name": self.name, "bases": bases}
        return {"name": self.name, **self.arguments}

    @property
    def models(self) -> Mapping[str, "ModelSpec"]:
        """The forecasters behind this spec by name: the members of a mixture, or itself."""
        return self.members if self.name == MIXTURE else {self.name: self}

    @property
    def kind(self) -> str:
        """The word that tells models apart in a ledger: the kind of a net, or else the name."""
        kind: str = self.arguments.get("net", {}).get("kind", self.name)
        return kind

    @property
    def digest(self) -> str:
        """SHA-256 of the spec: the identity of the model, wherever it is fitted."""
        config = self.as_config()
        return Fingerprint().add_json(config, sort_keys=True, default=as_json).hex()


def as_json(value: Any) -> dict[str, Any] | list[Any]:  # noqa: ANN401 what JSON does not know
    """Turn a mapping or a sequence that JSON does not know into one that it knows."""
    return dict(value) if isinstance(value, Mapping) else list(value)


def _check_same_pattern(members: Mapping[str, ModelSpec]) -> None:
    """Raise ValueError unless all members stand on one pattern; that of a pattern is itself."""
    patterns = [
        (name, member.arguments.get("pattern", member.as_config()))
        for name, member in members.items()
    ]
    patterns = [
        (name, pattern)
        for name, pattern in patterns
        if isinstance(pattern, Mapping) and pattern.get("name") == "pattern"
    ]
    for name, pattern in patterns:
        first_name, first = patterns[0]
        if unlike := [key for key in {**first, **pattern} if pattern.get(key) != first.get(key)]:
            raise ValueError(
                f"expected all bases on the same pattern, got that of {name} unlike that of "
                f"{first_name} in {', '.join(unlike)}"
            )
