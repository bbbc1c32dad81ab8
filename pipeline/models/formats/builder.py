"""A torchvision builder by name, with torchvision's weights, random ones, or the user's file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.hashing import hash_file
from pipeline.core.types import Model, ModelSpec
from pipeline.models.builder_checks import check_arguments, check_quantized, warn_of_own_limits
from pipeline.models.checkpoints import CheckpointMetadata
from pipeline.models.class_names import add_background, load_categories
from pipeline.models.model_cards import ModelCard
from pipeline.models.network_factory import WITH_AUXILIARY_HEADS, NetworkFactory
from pipeline.models.networks.classifier import ClassifierNetwork, find_logits_layer
from pipeline.models.networks.detector import DetectorNetwork
from pipeline.models.networks.segmenter import SegmenterNetwork
from pipeline.models.preprocessing import Preprocessing, Transform
from pipeline.models.registry import (
    FASTERRCNN,
    builder_takes_clips,
    get_builder_outputs,
    is_quantized,
)
from pipeline.models.selection import RANDOM, select_model
from pipeline.models.weights import (
    fetch_official_file,
    get_cache_path,
    parse_categories,
    read_safetensors_metadata,
    read_state_dict,
)


class TorchvisionBuilder:
    """`model` is a builder or a file that training left; `weights` is DEFAULT or another member of the builder's enum,
    `random`, or a file."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.selection = settings, select_model(settings)
        self.name, self.file, self.member = (
            self.selection.architecture,
            self.selection.file,
            self.selection.member,
        )
        self.detector, self.quantized = (
            "boxes" in get_builder_outputs(self.name),
            is_quantized(self.name),
        )
        self.like = self.selection.reference_weights
        self.transform = self.like.transforms()
        self.factory = NetworkFactory(self.selection, settings.seed)
        check_arguments(self.name, self.factory.model_args, self.file)
        if self.quantized:
            check_quantized(self.name, self.like, self.file)

    def describe(self) -> ModelSpec:
        self._refuse_untrained()
        if self.selection.anchors:
            self._skeleton()  # refuses those that it cannot have
        trained = self.selection.checkpoint
        weights, weights_id = self._weights()
        return ModelSpec(
            name=self.selection.display_name,
            outputs=get_builder_outputs(self.name),
            takes_clips=builder_takes_clips(self.name),
            categories=self._categories(),
            weights=weights,
            weights_id=weights_id,
            preprocessing=f"{self.name} {self.transform!r} channels={self.selection.channels}",
            keypoint_names=(trained and trained.keypoint_names)
            or tuple(self.like.meta.get("keypoint_names", ())),
            clip_lengths=self._clip_lengths(),
            embedding_dim=self._embedding_dim
            if "embedding" in get_builder_outputs(self.name)
            else None,
        )

    @property
    def weights_id(self) -> str:
        """As in `describe`, which also asks for class names."""
        return self._weights()[1]

    def _weights(self) -> tuple[str, str]:
        """(for people, for the fingerprint)."""
        if self.file:
            return str(self.file), f"sha256:{hash_file(self.file)}"
        if self.member:
            # the file's name carries the beginning of its SHA-256, so that nothing need be downloaded to know it
            return self.member.name, Path(self.member.url).name
        return RANDOM, f"{RANDOM}:{self.settings.seed}"

    def details(self) -> dict[str, str]:
        network = self._skeleton()
        rows = {"parameters": f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M"}
        if self.selection.checkpoint:
            said = {
                "measured": self.selection.checkpoint.metrics,
                "trained": self.selection.checkpoint.trained,
            }
            rows |= {name: _told(facts) for name, facts in said.items() if facts}
        if self.member is None:
            return rows
        card, meta, where = (
            ModelCard.from_weights(self.name, self.member),
            self.member.meta,
            get_cache_path(self.member),
        )
        figures = (
            f"{k} {v:g} on {data}"
            for data, one in meta.get("_metrics", {}).items()
            for k, v in one.items()
        )
        here = f"cached: {where}" if card.cached else f"not on this machine: {self.member.url}"
        return rows | {
            "GFLOPs": f"{card.gflops:.2f} for one {'clip' if builder_takes_clips(self.name) else 'image'}",
            "smallest input": str(meta.get("min_size", "any")),
            "accuracy": "; ".join(figures) or "none published",
            "file": f"{card.size:.0f} MB, {here}",
        }

    def load(self) -> Model:
        self._refuse_untrained()
        sha256 = None
        if self.quantized:  # before building: int8 weights are packed for one engine
            torch.backends.quantized.engine = self.like.meta["backend"]
        if self.member:
            sha256 = hash_file(fetch_official_file(self.member))
            network = self.factory.build_published()
        else:
            network = self.factory.build_random(self._num_classes())
            if self.file:
                sha256 = hash_file(self.file)
                self._load_file(network, self.file)
        network.eval().requires_grad_(False)
        wrapped: ClassifierNetwork | SegmenterNetwork | DetectorNetwork
        if self.detector:
            warn_of_own_limits(
                network, self.settings.lowest_min_score, self.settings.max_detections
            )
            wrapped = DetectorNetwork(network)
            exact, fast = (
                self._in_order(wrapped.preprocess),
                self._in_order(wrapped.fast_preprocess),
            )
            return Model(
                wrapped,
                exact,
                wrapped.bucket,
                sha256,
                fast_preprocess=fast,
                compilable=wrapped.compilable,
            )
        halves = Preprocessing.from_preset(self.transform)
        if "probabilities" in get_builder_outputs(self.name):
            wrapped = SegmenterNetwork(network, halves.resize, halves.normalize)
        else:
            wrapped = ClassifierNetwork(network, halves.normalize)
        return Model(
            wrapped,
            self._in_order(halves.resize),
            wrapped.bucket,
            sha256,
            full_precision_only=self.quantized,
            cpu_only=self.quantized,
            compilable=() if self.quantized else wrapped.compilable,
            fast_preprocess=self._in_order(halves.fast_resize) if halves.fast_resize else None,
        )

    def _clip_lengths(self) -> range:
        """MViT, whose positions are learned, takes one length only; of others some take a least one."""
        least = self.like.meta.get("min_temporal_size", 1)
        return range(least, least + 1 if self.name.startswith("mvit") else 1 << 16)

    def _embedding_dim(self) -> int:
        """The number of features that the head gets, from the network built without data."""
        head = find_logits_layer(self._skeleton())
        return (
            head.in_channels if isinstance(head, nn.Conv2d | nn.Conv3d) else int(head.in_features)
        )

    def _in_order(self, then: Transform) -> Transform:
        """The channels in the order that the weights want, then the rest."""
        return (lambda image: then(image.flip(0))) if self.selection.channels == "bgr" else then

    def _categories(self) -> tuple[str, ...]:
        if self.settings.categories:
            names = load_categories(self.settings.categories)
            names = add_background(names) if self.detector else names
            published = len(self.member.meta["categories"]) if self.member else len(names)
            if len(names) != published:
                raise ConfigError(
                    f"categories={self.settings.categories} has {len(names)} names (background included for detectors); "
                    f"weights={self.member} have {published}. Leave categories= out: these weights bring their own."
                )
            return names
        if self.file is None:
            return tuple(self.like.meta["categories"])
        names_in_file = parse_categories(read_safetensors_metadata(self.file))
        if names_in_file is None:
            raise ConfigError(self._ask_for_names(self.file))
        return names_in_file

    def _ask_for_names(self, file: Path) -> str:
        """For weights without names: how many classes there are, read off the layer that gives the scores."""
        asked = "say categories=FILE with one name a line (or JSON) in the order of the outputs"
        asked += ", or categories=coco." if self.detector else ", or categories=imagenet."
        if self.detector:  # its scores come from several layers
            return f"{file} carries no class names: {asked}"
        network = self.factory.build_skeleton(None)
        head = find_logits_layer(network)
        layer = next(name for name, module in network.named_modules() if module is head)
        state = read_state_dict(file)
        if f"{layer}.weight" not in state:
            return f"{file} has no layer {layer}.weight: it is not a state_dict of {self.name}."
        n_outputs = state[f"{layer}.weight"].shape[0]
        return (
            f"{file} carries no class names. Its head {layer} has out_features={n_outputs}: {asked}"
        )

    def build_for_training(self, num_classes: int, num_keypoints: int | None = None) -> nn.Module:
        """An untrained network for so many classes; see `NetworkFactory.build_for_training`."""
        return self.factory.build_for_training(num_classes, num_keypoints)

    def load_pretrained_state(self) -> Mapping[str, Tensor] | None:
        """The tensors that training begins with, or None; see `NetworkFactory.load_pretrained_state`."""
        return self.factory.load_pretrained_state()

    def read_class_names(self) -> tuple[str, ...] | None:
        """Of the weights that training begins with; None where they do not tell."""
        if self.settings.categories:
            return self._categories()
        if self.file is None:
            return tuple(self.member.meta["categories"]) if self.member else None
        return parse_categories(read_safetensors_metadata(self.file))

    def find_class_tensors(self, num_classes: int) -> frozenset[str]:
        """The tensors whose shapes follow the number of classes; see `NetworkFactory.find_class_tensors`."""
        return self.factory.find_class_tensors(num_classes)

    def build_metadata(
        self,
        categories: Sequence[str],
        keypoint_names: Sequence[str] = (),
        metrics: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> CheckpointMetadata:
        """What a file says that holds the weights of a network that `fresh` made."""
        return CheckpointMetadata(
            architecture=self.name,
            categories=tuple(categories),
            task=self.settings.task,
            backbone=self.selection.backbone,
            anchors=self.selection.anchors,
            model_args=self.factory.model_args,
            keypoint_names=tuple(keypoint_names),
            preprocess=f"{type(self.like).__name__}.{self.like.name}",
            channels=self.selection.channels,
            metrics=metrics or {},
            trained=facts or {},
        )

    def _refuse_untrained(self) -> None:
        if self.selection.needs_training:
            raise ConfigError(
                f"model={FASTERRCNN} has no published weights: train it (make train model={FASTERRCNN} "
                f"backbone={self.selection.backbone} train.data=...), or say weights=FILE, or weights=random to try it."
            )

    def _skeleton(self) -> nn.Module:
        return self.factory.build_skeleton(self._num_classes())

    def _num_classes(self) -> int | None:
        """None: the builder's default, which is what its published weights have."""
        return len(self._categories()) if self.file or self.settings.categories else None

    def _load_file(self, network: nn.Module, file: Path) -> None:
        state = read_state_dict(file)
        if self.name in WITH_AUXILIARY_HEADS or "probabilities" in get_builder_outputs(self.name):
            own = network.state_dict()
            for key in [
                key for key in state if key.casefold().startswith("aux") and key not in own
            ]:
                del state[key]
        if state._metadata is None:  # type: ignore[attr-defined]  # safetensors: mnasnet asks which version wrote it
            state._metadata = {"": {"version": network._version}}  # type: ignore[attr-defined]
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise ConfigError(
                f"weights={file} do not fit {self.name} with {len(self._categories())} classes "
                f"(categories={self.settings.categories or 'from the file'}):\n"
                + "\n".join(str(error).splitlines()[1:4])
            ) from None


def _told(facts: Mapping[str, Any]) -> str:
    """A file's facts for people, on one line; what is nested stays in the file."""
    plain = {name: value for name, value in facts.items() if isinstance(value, str | int | float)}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in plain.items()
    )
