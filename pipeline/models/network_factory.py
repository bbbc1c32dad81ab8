"""Networks of the chosen architecture: with published weights, with none, to be trained, or without data."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import ConfigError
from pipeline.models.anchors import apply_anchors
from pipeline.models.backbones import get_builder
from pipeline.models.networks.meta_device import use_meta_device
from pipeline.models.registry import is_quantized
from pipeline.models.selection import ModelSelection
from pipeline.models.weights import fetch_official_file, read_state_dict

# heads for training only
WITH_AUXILIARY_HEADS = (
    "googlenet",
    "inception_v3",
    "quantized_googlenet",
    "quantized_inception_v3",
)


class NetworkFactory:
    """Every method makes a network of its own and raises ConfigError where the builder does not take what was said."""

    def __init__(self, selection: ModelSelection, seed: int) -> None:
        """`seed`: of what is drawn where there are no weights."""
        self.selection, self.seed, self.name = selection, seed, selection.architecture
        self.quantized = is_quantized(self.name)
        self.model_args = dict(selection.model_args)
        if selection.member and self.name in (
            "googlenet",
            "inception_v3",
        ):  # which their published weights ask for
            self.model_args = {"transform_input": True} | self.model_args

    def build_skeleton(self, num_classes: int | None) -> nn.Module:
        """The network without data; a quantized builder's before it is quantized, which takes data. `num_classes` None: the
        builder's default."""
        arguments = self._without_weights(num_classes) | (
            {"quantize": False} if self.quantized else {}
        )
        with use_meta_device():
            return self._build(**arguments)

    def build_published(self) -> nn.Module:
        """With torchvision's weights."""
        return self._build(weights=self.selection.member)

    def build_random(self, num_classes: int | None) -> nn.Module:
        """Random weights, for those who want them or replace them by a file's."""
        return self._drawn(**self._without_weights(num_classes))

    def build_for_training(self, num_classes: int, num_keypoints: int | None = None) -> nn.Module:
        """To be trained for so many classes (a detector's and a segmenter's background included), with the heads that are
        for training only. Nothing is downloaded."""
        if self.quantized:
            raise ConfigError(
                f"model={self.name} is an int8 program and cannot be trained; train the builder without int8."
            )
        arguments = self._without_weights(num_classes)
        takes = inspect.signature(get_builder(self.name)).parameters
        has_weights = self.selection.file is not None or self.selection.member is not None
        if num_keypoints is not None and "num_keypoints" in takes:
            arguments["num_keypoints"] = num_keypoints
        if "aux_loss" in takes and has_weights:  # as published weights have it
            arguments["aux_loss"] = True
        if self.name in WITH_AUXILIARY_HEADS:
            arguments |= {"aux_logits": True, "init_weights": not has_weights}
        return self._drawn(to_train=True, **arguments)

    def find_class_tensors(self, num_classes: int) -> frozenset[str]:
        """The tensors of `fresh` whose shapes follow the number of classes: its heads."""
        with use_meta_device():
            these, others = (
                self.build_for_training(number).state_dict()
                for number in (num_classes, num_classes + 1)
            )
        return frozenset(name for name, one in these.items() if one.shape != others[name].shape)

    def load_pretrained_state(self) -> Mapping[str, Tensor] | None:
        """The tensors that training begins with: of published weights, downloaded where they are not on this machine, or of
        the user's file; None for random ones, and for a backbone of one's own, whose weights are chosen for themselves."""
        if self.selection.file:
            return read_state_dict(self.selection.file)
        if self.selection.member is None:
            return None
        fetch_official_file(self.selection.member)
        heads = {"aux_logits": True} if self.name in WITH_AUXILIARY_HEADS else {}
        # by the builder, which knows how old files name things
        return self._as_it_is(weights=self.selection.member, **heads).state_dict()

    def _drawn(self, to_train: bool = False, **arguments: Any) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self._build(to_train, **arguments)

    def _build(self, to_train: bool = False, **arguments: Any) -> nn.Module:
        network = self._as_it_is(**arguments)
        anchors, member = self.selection.anchors, self.selection.member
        if not anchors:
            return network
        anew = apply_anchors(
            network,
            anchors,
            arguments.get("num_classes", len(self.selection.reference_weights.meta["categories"])),
        )
        if anew and member and not to_train:
            raise ConfigError(
                f"{anchors.to_overrides()}: weights={member.name} were trained with another number of anchors at a place; "
                f"{', '.join(anew[:2])} would have to learn anew. `make train` does that."
            )
        return network

    def _as_it_is(self, **arguments: Any) -> nn.Module:
        """With the builder's own anchors."""
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

    def _without_weights(self, num_classes: int | None) -> dict[str, Any]:
        """What the builder is called with for random weights and files: its own defaults, and no download."""
        arguments: dict[str, Any] = {"weights": None}
        if num_classes is not None:
            arguments["num_classes"] = num_classes
        trained = self.selection.checkpoint
        if trained and trained.keypoint_names:
            arguments["num_keypoints"] = len(trained.keypoint_names)
        if "weights_backbone" in inspect.signature(get_builder(self.name)).parameters:
            arguments["weights_backbone"] = None
        if self.name in WITH_AUXILIARY_HEADS:
            arguments["init_weights"] = self.selection.file is None  # slow, and a file replaces it
            if self.selection.file:
                arguments["aux_logits"] = False
        return arguments
