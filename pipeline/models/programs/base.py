"""The part that all formats of programs share: ONNX, TorchScript and torch.export."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.hashing import hash_file
from pipeline.core.types import Model, ModelSpec
from pipeline.models.programs.choose_head import choose_head, find_head_class
from pipeline.models.programs.head import Head, ProgramFacts
from pipeline.models.programs.signature import ProgramSignature, format_shape
from pipeline.models.weights import resolve_file


class ProgramFile(ABC):
    """Base class of the formats whose files are programs.

    A subclass opens a file (`load_program`) and reads what it says about itself. The head
    (`conf/head/`) knows what the program computes. `settings.weights` is the file, or
    `settings.model` itself.

    Raises:
        ConfigError: The settings do not fit a program, or do not allow to run it.
    """

    suffixes: ClassVar[tuple[str, ...]]  # endings of the format's files
    # What opening a file may do, for which trust_code=true is required. None: a file is only data.
    danger: ClassVar[str | None]
    cpu_only: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.file = self._find_file()
        if self.danger and not settings.trust_code:
            raise ConfigError(
                f"{self._key}={self.file} {self.danger} "
                "If you trust where it came from, say trust_code=true."
            )

    @classmethod
    def recognises(cls, model: str) -> bool:
        """Return whether the value of `model` names a file of this format."""
        return Path(model).suffix.casefold() in cls.suffixes and Path(model).stem != ""

    @classmethod
    def list_file_tasks(cls, model: str) -> list[str]:
        """Return the tasks that a file can serve, the one it was made for first.

        The list is empty where only the user can know. Nothing of the file is run.
        """
        file = Path(model).expanduser()
        if not file.is_file():
            return []
        facts = ProgramFacts(file, cls.suffixes, None, cls.read_metadata(file))
        head = find_head_class(facts)
        return head.list_tasks(facts) if head.explain_match(facts) else []

    # --- what a format adds

    @abstractmethod
    def load_program(self) -> nn.Module:
        """Open the file.

        The module is called with a batch (B, 3, h, w), or with one image if
        `takes_one_image`.
        """

    @abstractmethod
    def read_signature(self) -> ProgramSignature | None:
        """Read the shapes of input and outputs; None where files of the format do not tell.

        Raises:
            ConfigError: The file is not one of this format.
        """

    @classmethod
    def read_metadata(cls, file: Path) -> Mapping[str, Any]:
        """Read what the exporting program wrote about the model, without running the file."""
        return {}

    def result_settings(self) -> dict[str, Any]:
        """Return the format's own settings that change results, for the fingerprint."""
        return {}

    def list_files(self) -> list[Path]:
        """Return the file, and the files that it refers to."""
        return [self.file]

    # --- the interface of a format

    def describe(self) -> ModelSpec:
        """Describe the model; the file is opened to read its signature, not run."""
        head = self.head
        preprocessing = head.describe_preprocessing() | {"channels": self.settings.channels}
        return ModelSpec(
            name=self.file.stem if self._key == "model" else self.settings.model,
            outputs=head.outputs,
            categories=head.categories,
            weights=str(self.file),
            weights_id=f"sha256:{self._sha256}",
            preprocessing=json.dumps(preprocessing | self.result_settings()),
            keypoint_names=head.keypoint_names,
        )

    def details(self) -> dict[str, str]:
        """Return further facts for a user who chooses a model: heading -> text."""
        n_bytes = sum(path.stat().st_size for path in self.list_files())
        rows = {"file": f"{n_bytes / 1e6:.1f} MB: {self.file}"}
        if why := type(self.head).explain_match(self._facts):
            rows["recognised by"] = why
        rows |= self.head.describe()
        signature = self._facts.signature
        if signature is None:
            return rows | {"input, outputs": "files of this format do not tell"}
        outputs = "; ".join(
            f"{name}: {format_shape(shape)}" for name, shape in signature.outputs.items()
        )
        return rows | {
            "input": format_shape(signature.input),
            "outputs": f"{len(signature.outputs)} ({outputs})",
        }

    def load(self) -> Model:
        """Open the program and assemble the model."""
        made = self.head.assemble(self.load_program())

        def preprocess(image: Tensor) -> Tensor:
            """Prepare an image: (3, H, W) uint8 RGB -> the program's channel order and size."""
            return made.preprocess(image.flip(0) if self.settings.channels == "bgr" else image)

        return Model(
            network=made.network,
            preprocess=preprocess,
            bucket=made.bucket,
            weights_sha256=self._sha256,
            full_precision_only=True,
            cpu_only=self.cpu_only,
            max_batch=made.max_batch,
            network_hw=made.network_hw,
            forward_factor=made.forward_factor,
        )

    # --- what the file says

    @cached_property
    def head(self) -> Head:
        """The head, after checking that it serves the task and fits the settings."""
        return choose_head(self._facts, self.settings)

    @property
    def takes_one_image(self) -> bool:
        """Whether the program is called with one image (3, H, W), not with a batch."""
        return find_head_class(self._facts).takes_one_image(self.settings.task)

    @cached_property
    def _facts(self) -> ProgramFacts:
        metadata = self.read_metadata(self.file)
        return ProgramFacts(self.file, self.suffixes, self.read_signature(), metadata)

    @cached_property
    def _sha256(self) -> str:
        return hash_file(*self.list_files())

    @property
    def _key(self) -> str:
        """The setting that names the file."""
        return "model" if self.recognises(self.settings.model) else "weights"

    def _find_file(self) -> Path:
        settings = self.settings
        if self._key == "model":
            if settings.weights != "DEFAULT":
                raise ConfigError(f"model={settings.model} is the file itself; leave weights= out.")
            return resolve_file(settings.model, self.suffixes, key="model")
        if settings.weights in ("DEFAULT", "random"):
            raise ConfigError(
                f"model={settings.model} needs its file: weights=FILE{self.suffixes[0]}"
            )
        return resolve_file(settings.weights, self.suffixes)
