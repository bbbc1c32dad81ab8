"""Compose settings from conf/ and `key=value` words, for the command line, tests and code alike."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.core.errors import ConfigError
from pipeline.core.package_files import find_resource

if TYPE_CHECKING:
    from pipeline.config.settings import Settings

CONFIG_NAME = "config"  # conf/config.yaml
_DEFAULTS_NODE = "declared_settings"  # the name in the defaults list of conf/config.yaml


def compose_settings(arguments: Sequence[str]) -> "Settings":
    """Compose settings from `key=value` words and check them.

    It changes no state of the process: no signal handler, no `sys.argv`, no logging.

    Raises:
        ConfigError: A setting is unknown or has a value that is not allowed.
    """
    from pipeline.config.overrides import prepare_overrides
    from pipeline.config.settings import Settings

    overrides = prepare_overrides(arguments, sweep=False)
    from hydra import compose, initialize_config_dir

    with translate_hydra_errors():
        register_defaults()
        with initialize_config_dir(version_base="1.3", config_dir=str(find_resource("conf"))):
            config = compose(CONFIG_NAME, overrides=overrides, return_hydra_config=True)

    task = config.hydra.runtime.choices["task"]
    del config.hydra
    return Settings.from_config(config, task)


def register_defaults() -> None:
    """Give Hydra the declared defaults, which conf/config.yaml includes by name."""
    from hydra.core.config_store import ConfigStore

    from pipeline.config.declare import build_defaults
    from pipeline.config.settings import Settings

    ConfigStore.instance().store(name=_DEFAULTS_NODE, node=build_defaults(Settings))


@contextmanager
def translate_hydra_errors() -> Iterator[None]:
    """Raise ConfigError in place of Hydra's and OmegaConf's errors."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        hint = " For a list write classes=[dog,cat]." if "Ambiguous value" in str(error) else ""
        raise ConfigError(
            f"The settings cannot be read: {str(error).splitlines()[0].rstrip('.')}.{hint}"
        ) from None
