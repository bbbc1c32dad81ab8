"""Build networks of the chosen architecture: with published or random weights, or without data."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import ConfigError
from pipeline.models.anchor_layers import apply_anchors
from pipeline.models.backbones import get_builder
from pipeline.models.networks.meta_device import use_meta_device
from pipeline.models.selection import ModelSelection
from pipeline.models.torchvision_builders import is_quantized
from pipeline.models.weights import fetch_official_file, read_state_dict

# These have auxiliary heads, which only training uses.
WITH_AUXILIARY_HEADS = (
    "googlenet",
    "inception_v3",
    "quantized_googlenet",
    "quantized_inception_v3",
)


class NetworkFactory:
    """Factory for networks of one architecture.

    Every method builds a new network, and raises ConfigError where the builder does not take the
    arguments.

    Args:
        selection: The architecture and its weights.
        seed: Seed of the random weights.
    """

    def __init__(self, selection: ModelSelection, seed: int) -> None:
        self.selection, self.seed, self.name = selection, seed, selection.architecture
        self.quantized = is_quantized(self.name)
        self.model_args = dict(selection.model_args)
        if selection.member and self.name in ("googlenet", "inception_v3"):
            # The published weights of these two expect `transform_input`.
            self.model_args = {"transform_input": True} | self.model_args

    def build_skeleton(self, num_classes: int | None) -> nn.Module:
        """Build the network on the meta device.

        A quantized network is returned before quantization, which would need data.

        Args:
            num_classes: Number of classes; None: the builder's default.
        """
        arguments = self._list_arguments(num_classes)
        if self.quantized:
            arguments["quantize"] = False
        with use_meta_device():
            return self._build(**arguments)

    def build_published(self) -> nn.Module:
        """Build the network with torchvision's weights."""
        return self._build(weights=self.selection.member)

    def build_random(self, num_classes: int | None) -> nn.Module:
        """Build the network with random weights, to be used or to be replaced by a file's."""
        return self._build_seeded(**self._list_arguments(num_classes))

    def build_for_training(self, num_classes: int, num_keypoints: int | None = None) -> nn.Module:
        """Build the network with random weights and the heads that only training uses.

        Nothing is downloaded.

        Args:
            num_classes: Number of classes; of detectors and segmenters with the background.
            num_keypoints: Number of keypoints; None: the builder's default.
        """
        if self.quantized:
            raise ConfigError(
                f"model={self.name} is an int8 program and cannot be trained; "
                "train the builder without int8."
            )
        arguments = self._list_arguments(num_classes)
        parameters = inspect.signature(get_builder(self.name)).parameters
        has_weights = self.selection.file is not None or self.selection.member is not None
        if num_keypoints is not None and "num_keypoints" in parameters:
            arguments["num_keypoints"] = num_keypoints
        if "aux_loss" in parameters and has_weights:  # published weights have the auxiliary head
            arguments["aux_loss"] = True
        if self.name in WITH_AUXILIARY_HEADS:
            arguments |= {"aux_logits": True, "init_weights": not has_weights}
        return self._build_seeded(for_training=True, **arguments)

    def find_class_tensors(self, num_classes: int) -> frozenset[str]:
        """Return the names of the tensors whose shapes depend on the number of classes."""
        with use_meta_device():
            state = self.build_for_training(num_classes).state_dict()
            larger = self.build_for_training(num_classes + 1).state_dict()
        return frozenset(
            name for name, tensor in state.items() if tensor.shape != larger[name].shape
        )

    def load_pretrained_state(self) -> Mapping[str, Tensor] | None:
        """Return the tensors that training begins with.

        They come from the user's file, or from published weights, which are downloaded where they
        are not on this machine. None for random weights, and for a network with a `backbone`,
        whose weights are a setting of training.
        """
        if self.selection.file:
            return read_state_dict(self.selection.file)
        if self.selection.member is None:
            return None
        fetch_official_file(self.selection.member)
        heads = {"aux_logits": True} if self.name in WITH_AUXILIARY_HEADS else {}
        # The builder loads the file, because it knows the names of tensors in old files.
        return self._call_builder(weights=self.selection.member, **heads).state_dict()

    def _build_seeded(self, for_training: bool = False, **arguments: Any) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self._build(for_training, **arguments)

    def _build(self, for_training: bool = False, **arguments: Any) -> nn.Module:
        network = self._call_builder(**arguments)
        anchors, member = self.selection.anchors, self.selection.member
        if not anchors:
            return network
        default_classes = len(self.selection.reference_weights.meta["categories"])
        replaced = apply_anchors(network, anchors, arguments.get("num_classes", default_classes))
        if replaced and member and not for_training:
            raise ConfigError(
                f"{anchors.to_overrides()}: weights={member.name} were trained with another number "
                f"of anchors at a place; {', '.join(replaced[:2])} would have to learn anew. "
                "`make train` does that."
            )
        return network

    def _call_builder(self, **arguments: Any) -> nn.Module:
        """Build the network with the builder's own anchors."""
        arguments = ({"quantize": True} if self.quantized else {}) | arguments | self.model_args
        if self.selection.backbone:
            arguments["backbone"] = self.selection.backbone
        try:
            network: nn.Module = get_builder(self.name)(**arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{self.name} does not take model_args={self.model_args}: {error}"
            ) from None
        return network

    def _list_arguments(self, num_classes: int | None) -> dict[str, Any]:
        """Return the builder's arguments for a network without published weights."""
        arguments: dict[str, Any] = {"weights": None}
        if num_classes is not None:
            arguments["num_classes"] = num_classes
        checkpoint = self.selection.checkpoint
        if checkpoint and checkpoint.keypoint_names:
            arguments["num_keypoints"] = len(checkpoint.keypoint_names)
        if "weights_backbone" in inspect.signature(get_builder(self.name)).parameters:
            arguments["weights_backbone"] = None  # its default would be downloaded
        if self.name in WITH_AUXILIARY_HEADS:
            # Initialising is slow, and useless where a file replaces the weights.
            arguments["init_weights"] = self.selection.file is None
            if self.selection.file:
                arguments["aux_logits"] = False
        return arguments
