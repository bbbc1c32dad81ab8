"""A torchvision builder by name, with published weights, random ones, or the user's file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.hashing import hash_file
from pipeline.core.types import Model, ModelSpec
from pipeline.models.builder_checks import check_arguments, check_quantized, warn_of_model_limits
from pipeline.models.builder_classes import (
    list_published_names,
    load_given_names,
    read_names_in_file,
)
from pipeline.models.builder_details import list_checkpoint_facts, list_weights_facts
from pipeline.models.checkpoints import CheckpointMetadata
from pipeline.models.model_assembly import assemble_detector, assemble_from_preset
from pipeline.models.network_factory import WITH_AUXILIARY_HEADS, NetworkFactory
from pipeline.models.networks.classifier import find_logits_layer
from pipeline.models.selection import RANDOM, select_model
from pipeline.models.state_loading import load_whole_state
from pipeline.models.torchvision_builders import (
    FASTERRCNN,
    builder_takes_clips,
    get_builder_outputs,
    is_quantized,
)
from pipeline.models.weights import (
    fetch_official_file,
    parse_categories,
    read_safetensors_metadata,
    read_state_dict,
)


class TorchvisionBuilder:
    """Format of a model that a torchvision builder makes.

    `model` is a builder, or a file that training left. `weights` is DEFAULT or the name of other
    published weights, `random`, or a file.

    Raises:
        ConfigError: The settings contradict each other.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.selection = settings, select_model(settings)
        self.name, self.file = self.selection.architecture, self.selection.file
        self.member = self.selection.member
        self.outputs = get_builder_outputs(self.name)
        self.is_detector, self.quantized = "boxes" in self.outputs, is_quantized(self.name)
        self.reference_weights = self.selection.reference_weights
        self.transform = self.reference_weights.transforms()
        self.factory = NetworkFactory(self.selection, settings.seed)

        check_arguments(self.name, self.factory.model_args, self.file)
        if self.quantized:
            check_quantized(self.name, self.reference_weights, self.file)

    @classmethod
    def recognises(cls, model: str) -> bool:
        """Return False: this is the format of models that no other format recognises."""
        return False

    @classmethod
    def list_file_tasks(cls, model: str) -> list[str]:
        return []

    # --- description

    def describe(self) -> ModelSpec:
        """Describe the model without loading its weights."""
        self._check_has_weights()
        if self.selection.anchors:
            self._build_skeleton()  # raises an error for anchors that the network cannot have
        checkpoint = self.selection.checkpoint
        weights, weights_id = self._name_weights()
        published_points = self.reference_weights.meta.get("keypoint_names", ())
        return ModelSpec(
            name=self.selection.display_name,
            outputs=self.outputs,
            takes_clips=builder_takes_clips(self.name),
            categories=self._load_categories(),
            weights=weights,
            weights_id=weights_id,
            preprocessing=f"{self.name} {self.transform!r} channels={self.selection.channels}",
            keypoint_names=(checkpoint and checkpoint.keypoint_names) or tuple(published_points),
            clip_lengths=self._get_clip_lengths(),
            embedding_dim=self._count_features if "embedding" in self.outputs else None,
        )

    def details(self) -> dict[str, str]:
        """Return further facts for a user who chooses a model: heading -> text."""
        n_parameters = sum(p.numel() for p in self._build_skeleton().parameters())
        rows = {"parameters": f"{n_parameters / 1e6:.2f} M"}
        if self.selection.checkpoint:
            rows |= list_checkpoint_facts(self.selection.checkpoint)
        if self.member:
            rows |= list_weights_facts(self.name, self.member)
        return rows

    @property
    def weights_id(self) -> str:
        """Identity of the weights in fingerprints. It does not depend on the class names."""
        return self._name_weights()[1]

    def _name_weights(self) -> tuple[str, str]:
        """Return the weights' name for people, and their identity for fingerprints."""
        if self.file:
            return str(self.file), f"sha256:{hash_file(self.file)}"
        if self.member:
            # The file's name holds a part of its SHA-256, so it need not be downloaded to be known.
            return self.member.name, Path(self.member.url).name
        return RANDOM, f"{RANDOM}:{self.settings.seed}"

    def _get_clip_lengths(self) -> range:
        """Return the numbers of frames that a clip may have.

        MViT takes one number only, because it has learned a position for each frame.
        """
        shortest = self.reference_weights.meta.get("min_temporal_size", 1)
        return range(shortest, shortest + 1 if self.name.startswith("mvit") else 1 << 16)

    def _count_features(self) -> int:
        """Return the length of an embedding: the number of inputs of the layer behind it."""
        layer = find_logits_layer(self._build_skeleton())
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            return layer.in_channels
        return int(layer.in_features)

    def _load_categories(self) -> tuple[str, ...]:
        given = self.settings.categories
        if given:
            return load_given_names(given, self.member, self.is_detector)
        if self.file:
            return read_names_in_file(self.file, self.name, self.is_detector, self.factory)
        return list_published_names(self.reference_weights)

    # --- networks

    def load(self) -> Model:
        """Load the weights and assemble the model."""
        self._check_has_weights()
        if self.quantized:  # before building: int8 weights are packed for one engine
            torch.backends.quantized.engine = self.reference_weights.meta["backend"]
        network, sha256 = self._load_network()
        network.eval().requires_grad_(False)

        channels = self.selection.channels
        if not self.is_detector:
            is_segmenter = "probabilities" in self.outputs
            return assemble_from_preset(
                network, self.transform, channels, sha256, is_segmenter, self.quantized
            )
        warn_of_model_limits(network, self._find_given_min_score(), self.settings.max_detections)
        return assemble_detector(network, channels, sha256)

    def _find_given_min_score(self) -> float | None:
        """Return the lowest score that the user asks for; None if it is the task's default."""
        lowest = self.settings.lowest_min_score
        presets = self.settings.components["task"].get("presets", {})
        return None if lowest == presets.get("min_score") else lowest

    def _load_network(self) -> tuple[nn.Module, str | None]:
        """Return the network, and the SHA-256 of its weights' file; None for random weights."""
        if self.member:
            sha256 = hash_file(fetch_official_file(self.member))
            return self.factory.build_published(), sha256
        network = self.factory.build_random(self._count_classes())
        if self.file is None:
            return network, None
        sha256 = hash_file(self.file)
        self._load_file(network, self.file)
        return network, sha256

    def _load_file(self, network: nn.Module, file: Path) -> None:
        try:
            has_heads = self.name in WITH_AUXILIARY_HEADS or "probabilities" in self.outputs
            load_whole_state(network, read_state_dict(file), skip_auxiliary_heads=has_heads)
        except RuntimeError as error:
            raise ConfigError(
                f"weights={file} do not fit {self.name} with {len(self._load_categories())} "
                f"classes (categories={self.settings.categories or 'from the file'}):\n"
                + "\n".join(str(error).splitlines()[1:4])
            ) from None

    def _build_skeleton(self) -> nn.Module:
        return self.factory.build_skeleton(self._count_classes())

    def _count_classes(self) -> int | None:
        """Return the number of classes; None: the default, which published weights have."""
        return len(self._load_categories()) if self.file or self.settings.categories else None

    def _check_has_weights(self) -> None:
        if self.selection.needs_training:
            raise ConfigError(
                f"model={FASTERRCNN} has no published weights: train it (make train "
                f"model={FASTERRCNN} backbone={self.selection.backbone} train.data=...), "
                "or say weights=FILE, or weights=random to try it."
            )

    # --- training: see `trainable.TrainableFormat`

    def build_for_training(self, num_classes: int, num_keypoints: int | None = None) -> nn.Module:
        return self.factory.build_for_training(num_classes, num_keypoints)

    def load_pretrained_state(self) -> Mapping[str, Tensor] | None:
        return self.factory.load_pretrained_state()

    def find_class_tensors(self, num_classes: int) -> frozenset[str]:
        return self.factory.find_class_tensors(num_classes)

    def read_class_names(self) -> tuple[str, ...] | None:
        if self.settings.categories:
            return self._load_categories()
        if self.file is None:
            return list_published_names(self.member) if self.member else None
        return parse_categories(read_safetensors_metadata(self.file))

    def build_metadata(
        self,
        categories: Sequence[str],
        keypoint_names: Sequence[str] = (),
        metrics: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> CheckpointMetadata:
        weights = self.reference_weights
        return CheckpointMetadata(
            architecture=self.name,
            categories=tuple(categories),
            task=self.settings.task,
            backbone=self.selection.backbone,
            anchors=self.selection.anchors,
            model_args=self.factory.model_args,
            keypoint_names=tuple(keypoint_names),
            preprocess=f"{type(weights).__name__}.{weights.name}",
            channels=self.selection.channels,
            metrics=metrics or {},
            trained=facts or {},
        )
