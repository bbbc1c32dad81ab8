"""The operations that training needs from a model's format."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from pipeline.models.checkpoints import CheckpointMetadata


@runtime_checkable
class TrainableFormat(Protocol):
    """A format whose models can be trained, such as `formats.builder.TorchvisionBuilder`."""

    transform: Callable[[Tensor], Tensor]  # the preprocessing of the weights
    weights_id: str  # identifies the weights in fingerprints

    def build_for_training(self, num_classes: int, num_keypoints: int | None = None) -> nn.Module:
        """Build a network with random weights; `num_classes` includes a background class."""
        ...

    def load_pretrained_state(self) -> Mapping[str, Tensor] | None:
        """Return the tensors that training begins with, or None for random ones."""
        ...

    def read_class_names(self) -> Sequence[str] | None:
        """Return the class names of the weights that training begins with, or None if unknown."""
        ...

    def find_class_tensors(self, num_classes: int) -> Collection[str]:
        """Return the names of the tensors whose shapes depend on the number of classes."""
        ...

    def build_metadata(
        self,
        categories: Sequence[str],
        keypoint_names: Sequence[str] = (),
        metrics: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> CheckpointMetadata:
        """Describe a network from `build_for_training`, for the file that holds its weights.

        Args:
            categories: Class names; the index is the class id.
            keypoint_names: Names of the keypoints, in the order of the outputs.
            metrics: What was measured of the network.
            facts: How it was trained, for people.
        """
        ...
