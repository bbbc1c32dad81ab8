"""The settings of a run. They are checked here once, so all other code can trust their values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.declare import check_values
from pipeline.config.groups.compute import ComputeSettings, OutputSettings
from pipeline.config.groups.images import FilterSettings, InputSettings, ViewSettings
from pipeline.config.groups.model import ModelSettings
from pipeline.config.groups.training import (
    BenchmarkSettings,
    ModelExportSettings,
    TrainingSettings,
)
from pipeline.config.word_grammar import escape_references
from pipeline.core.errors import ConfigError
from pipeline.core.package_files import find_resource

GROUPS: tuple[type, ...] = (
    InputSettings,
    ModelSettings,
    FilterSettings,
    ViewSettings,
    ComputeSettings,
    OutputSettings,
    TrainingSettings,
    ModelExportSettings,
    BenchmarkSettings,
)

# Groups that only these verbs use.
GROUP_VERBS: Mapping[type, tuple[str, ...]] = {
    TrainingSettings: ("train", "anchors"),
    ModelExportSettings: ("export-model",),
    BenchmarkSettings: ("bench",),
}

# Kinds of components, chosen by file name: source=tar is conf/source/tar.yaml.
COMPONENT_KINDS: Mapping[str, str] = {
    "task": "what to find in each image",
    "source": "where inputs come from",
    "engine": "how a forward pass runs",
    "executor": "where shards are computed",
    "sink": "what is written; several in a list, for example sink=[parquet,overlays,label_maps]",
    "examples": "what `train` learns from",
}


@dataclass(frozen=True, kw_only=True)
class Settings(
    BenchmarkSettings,
    ModelExportSettings,
    TrainingSettings,
    OutputSettings,
    ComputeSettings,
    ViewSettings,
    FilterSettings,
    InputSettings,
    ModelSettings,
):
    """All settings, with the task's defaults in place of nulls, and the configured components.

    The settings themselves are declared in the folder `groups`.
    """

    task: str
    components: Mapping[str, Any]  # by kind: the class's `_target_` and its arguments

    @property
    def lowest_min_score(self) -> float:
        """The lowest score that some class accepts."""
        if isinstance(self.min_score, Mapping):
            return min(self.min_score.values())
        return self.min_score

    def to_plain(self) -> dict[str, Any]:
        """Return the settings in JSON types. `from_plain` is the inverse."""
        plain = asdict(self)
        plain["parts"] = plain.pop("components")  # its name in run.json
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Settings":
        """Read what `to_plain` returned, also after a round trip through JSON."""
        return cls(**check_values(cls, plain), task=plain["task"], components=plain["parts"])

    @classmethod
    def from_config(cls, config: DictConfig, task: str) -> "Settings":
        """Check a configuration that Hydra composed.

        Args:
            config: The settings and a node for each kind of component.
            task: The name of the chosen file in conf/task.

        Raises:
            ConfigError: A value is not allowed, or a reference such as `${input}` leads nowhere.
        """
        nodes: Any = OmegaConf.to_container(config, resolve=False)

        try:
            values = _fill_presets(check_values(cls, config), nodes["task"].get("presets", {}))
            components = _resolve_components(nodes, values)
        except OmegaConfBaseException as error:
            raise ConfigError(
                f"The configuration cannot be resolved: {str(error).splitlines()[0]}"
            ) from None

        return cls(**values, task=task, components=components)


def _fill_presets(values: Mapping[str, Any], presets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the task's defaults where a value is None."""
    filled = dict(values)
    uses_samples = values["input"] is None and presets["sample_model"] is not None

    if uses_samples:
        filled["input"] = str(find_resource("data") / "samples")
    if values["model"] is None:
        # The detector of the samples knows only their classes: it is no default for users' images.
        filled["model"] = presets["sample_model" if uses_samples else "model"]

    for key in ("min_score", "top_k"):
        if values[key] is None:
            filled[key] = presets.get(key)
    if isinstance(filled["min_score"], dict):
        filled["min_score"] = {"default": presets["min_score"], **filled["min_score"]}

    return filled


def _resolve_components(nodes: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve the references of component nodes, such as `root: ${input}`, to checked values."""
    config = OmegaConf.create(
        {kind: nodes.get(kind, {}) for kind in COMPONENT_KINDS}
        | {key: _to_config_value(value) for key, value in values.items()}
    )
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    return {kind: resolved[kind] for kind in COMPONENT_KINDS}


def _to_config_value(value: Any) -> Any:
    """Return a checked value for OmegaConf. A `${` in a text is no reference any more."""
    if is_dataclass(value) and not isinstance(value, type):
        return _to_config_value(asdict(value))
    if isinstance(value, str):
        return escape_references(value)
    if isinstance(value, Mapping):
        return {key: _to_config_value(item) for key, item in value.items()}
    return [_to_config_value(item) for item in value] if isinstance(value, list | tuple) else value
