"""The contract of heads: what a program in a file computes, and how its images are prepared."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pipeline.models.programs.signature import ProgramSignature


@dataclass(frozen=True)
class ProgramFacts:
    """Facts that a program's file states, known before the program is opened.

    Attributes:
        file: The program's file.
        suffixes: Endings of the format's files, for messages.
        signature: Shapes of the input and the outputs; None if the format does not hold them.
        metadata: What the exporting program wrote about the model; empty if it wrote nothing.
    """

    file: Path
    suffixes: tuple[str, ...]
    signature: ProgramSignature | None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProgramModel:
    """A program made into a network with the inputs and outputs of `core.types.Model`."""

    network: nn.Module
    preprocess: Callable[[Tensor], Tensor]
    bucket: Callable[[tuple[int, int]], Hashable]
    max_batch: int | None = None
    network_hw: Callable[[tuple[int, int]], tuple[int, int]] | None = None
    forward_factor: float = 64.0


class Head(ABC):
    """Converts the outputs of a program. One component a file, configured by `conf/head/`.

    It is built with `facts: ProgramFacts`, `settings: Settings` and the keys of its configuration
    file, all by name. It may raise ConfigError for a file or a setting that does not fit.
    """

    categories: tuple[str, ...]  # class names; index = class id
    outputs: frozenset[str]  # of the network, by the names in `core.types.Model`
    keypoint_names: tuple[str, ...] = ()

    @classmethod
    @abstractmethod
    def explain_match(cls, facts: ProgramFacts) -> str | None:
        """Return what shows that the program has this head, as text; None if it has another."""

    @classmethod
    @abstractmethod
    def list_tasks(cls, facts: ProgramFacts) -> list[str]:
        """Return the tasks that the program can serve, the one it was made for first."""

    @classmethod
    def takes_one_image(cls, task: str) -> bool:
        """Return whether the program is called with one image (3, H, W), not with a batch."""
        return False

    @abstractmethod
    def describe_preprocessing(self) -> dict[str, Any]:
        """Return what determines the program's input, in JSON types, for the fingerprint."""

    @abstractmethod
    def assemble(self, program: nn.Module) -> ProgramModel:
        """Return the model around the opened program."""

    def describe(self) -> dict[str, str]:
        """Return further facts for a user: heading -> text."""
        return {}
