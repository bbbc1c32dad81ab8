"""A torchvision builder by name, with torchvision's weights, random ones, or the user's file."""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import WeightsEnum

from pipeline.builders import check_arguments, check_quantized, warn_of_own_limits
from pipeline.catalogue import Card
from pipeline.categories import load_categories, with_background
from pipeline.errors import ConfigError
from pipeline.hashing import sha256_of
from pipeline.models import EMBEDDED, builder_of, is_quantized, tasks_of, weights_member
from pipeline.networks import Classifier, Detector, Segmenter, find_head, without_data
from pipeline.resources import resource
from pipeline.settings import Settings
from pipeline.transforms import Preprocessing, Transform
from pipeline.types import Model, ModelSpec
from pipeline.weights import (
    cache_path,
    existing,
    metadata_categories,
    official_file,
    read_metadata,
    read_state_dict,
)

RANDOM = "random"
# heads for training only
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3", "quantized_googlenet", "quantized_inception_v3")


class Builder:
    """`weights` is DEFAULT or another member of the builder's enum, `random`, or a file."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name, weights = settings.model, settings.weights
        if self.name == EMBEDDED:
            path = resource("data") / f"{EMBEDDED}.safetensors"
            if weights != "DEFAULT":
                raise ConfigError(f"model={EMBEDDED} is one architecture with one file; leave weights= out.")
            self.name, weights = read_metadata(path)["architecture"], str(path)
        self.detector, self.quantized = "detect" in tasks_of(self.name), is_quantized(self.name)
        self.file: Path | None = None
        self.member: WeightsEnum | None = None
        if Path(weights).suffix.casefold() in (".safetensors", ".pth", ".pt"):
            self.file = existing(weights, (".safetensors", ".pth", ".pt"))
        elif weights != RANDOM:
            self.member = weights_member(self.name, weights)
        # Whose preprocessing and class names: the weights' own; for random weights and files the member `preprocess=`.
        self.like = self.member or weights_member(self.name, settings.preprocess, key="preprocess")
        self.transform = self.like.transforms()
        check_arguments(self.name, settings.model_args, self.file)
        if self.quantized:
            check_quantized(self.name, self.like, self.file)

    def describe(self) -> ModelSpec:
        if self.file:
            weights, weights_id = str(self.file), f"sha256:{sha256_of(self.file)}"
        elif self.member:
            # the file's name carries the beginning of its SHA-256, so that nothing need be downloaded to know it
            weights, weights_id = self.member.name, Path(self.member.url).name
        else:
            weights, weights_id = RANDOM, f"{RANDOM}:{self.settings.seed}"
        return ModelSpec(
            name=self.settings.model,
            tasks=tasks_of(self.name),
            categories=self._categories(),
            weights=weights,
            weights_id=weights_id,
            preprocessing=f"{self.name} {self.transform!r} channels={self.settings.channels}",
            keypoint_names=tuple(self.like.meta.get("keypoint_names", ())),
            clip_lengths=self._clip_lengths(),
            embedding_dim=self._embedding_dim if "embed" in tasks_of(self.name) else None,
        )

    def details(self) -> dict[str, str]:
        network = self._skeleton()
        rows = {"parameters": f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M"}
        if self.member is None:
            return rows
        card, meta, where = Card.of(self.name, self.member), self.member.meta, cache_path(self.member)
        figures = (f"{k} {v:g} on {data}" for data, one in meta.get("_metrics", {}).items() for k, v in one.items())
        here = f"cached: {where}" if card.cached else f"not on this machine: {self.member.url}"
        return rows | {
            "GFLOPs": f"{card.gflops:.2f} for one {'clip' if 'video' in card.tasks else 'image'}",
            "smallest input": str(meta.get("min_size", "any")),
            "accuracy": "; ".join(figures) or "none published",
            "file": f"{card.size:.0f} MB, {here}",
        }

    def load(self) -> Model:
        sha256 = None
        if self.quantized:  # before building: int8 weights are packed for one engine
            torch.backends.quantized.engine = self.like.meta["backend"]
        if self.member:
            sha256 = sha256_of(official_file(self.member))
            network = self._build(weights=self.member)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.settings.seed)
                network = self._build(**self._without_weights())
            if self.file:
                sha256 = sha256_of(self.file)
                self._load_file(network, self.file)
        network.eval().requires_grad_(False)
        wrapped: Classifier | Segmenter | Detector
        if self.detector:
            warn_of_own_limits(network, self.settings.lowest_min_score, self.settings.max_detections)
            wrapped = Detector(network)
            exact, fast = self._in_order(wrapped.preprocess), self._in_order(wrapped.fast_preprocess)
            return Model(wrapped, exact, wrapped.bucket, sha256, fast_preprocess=fast, compilable=wrapped.compilable)
        halves = Preprocessing.of(self.transform)
        if "segment" in tasks_of(self.name):
            wrapped = Segmenter(network, halves.resize, halves.normalize)
        else:
            wrapped = Classifier(network, halves.normalize)
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
        head = find_head(self._skeleton())
        return head.in_channels if isinstance(head, nn.Conv2d | nn.Conv3d) else int(head.in_features)

    def _in_order(self, then: Transform) -> Transform:
        """The channels in the order that the weights want, then the rest."""
        return (lambda image: then(image.flip(0))) if self.settings.channels == "bgr" else then

    def _categories(self) -> tuple[str, ...]:
        if self.settings.categories:
            names = load_categories(self.settings.categories)
            names = with_background(names) if self.detector else names
            published = len(self.member.meta["categories"]) if self.member else len(names)
            if len(names) != published:
                raise ConfigError(
                    f"categories={self.settings.categories} has {len(names)} names (background included for detectors); "
                    f"weights={self.member} have {published}. Leave categories= out: these weights bring their own."
                )
            return names
        if self.file is None:
            return tuple(self.like.meta["categories"])
        names_in_file = metadata_categories(read_metadata(self.file))
        if names_in_file is None:
            raise ConfigError(self._ask_for_names(self.file))
        return names_in_file

    def _ask_for_names(self, file: Path) -> str:
        """For weights without names: how many classes there are, read off the layer that gives the scores."""
        asked = "say categories=FILE with one name a line (or JSON) in the order of the outputs"
        asked += ", or categories=coco." if self.detector else ", or categories=imagenet."
        if self.detector:  # its scores come from several layers
            return f"{file} carries no class names: {asked}"
        network = self._skeleton(named=False)
        head = find_head(network)
        layer = next(name for name, module in network.named_modules() if module is head)
        state = read_state_dict(file)
        if f"{layer}.weight" not in state:
            return f"{file} has no layer {layer}.weight: it is not a state_dict of {self.name}."
        n_outputs = state[f"{layer}.weight"].shape[0]
        return f"{file} carries no class names. Its head {layer} has out_features={n_outputs}: {asked}"

    def _skeleton(self, named: bool = True) -> nn.Module:
        """The network without data; a quantized builder's before it is quantized, which takes data."""
        arguments = self._without_weights(named) | ({"quantize": False} if self.quantized else {})
        with without_data():
            return self._build(**arguments)

    def _build(self, **arguments: Any) -> nn.Module:
        arguments = ({"quantize": True} if self.quantized else {}) | arguments
        try:
            return builder_of(self.name)(**arguments, **self.settings.model_args)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.name} does not take model_args={dict(self.settings.model_args)}: {error}") from None

    def _without_weights(self, named: bool = True) -> dict[str, Any]:
        """What the builder is called with for random weights and files: its own defaults, and no download. The number of
        classes is that of the names, or the builder's default when not `named`."""
        arguments: dict[str, Any] = {"weights": None}
        if named and (self.file or self.settings.categories):
            arguments["num_classes"] = len(self._categories())
        if "weights_backbone" in inspect.signature(builder_of(self.name)).parameters:
            arguments["weights_backbone"] = None
        if self.name in _WITH_AUXILIARY_HEADS:
            arguments["init_weights"] = self.file is None  # slow, and a file replaces it
            if self.file:
                arguments["aux_logits"] = False
        return arguments

    def _load_file(self, network: nn.Module, file: Path) -> None:
        state = read_state_dict(file)
        if self.name in _WITH_AUXILIARY_HEADS or "segment" in tasks_of(self.name):
            for key in [key for key in state if key.casefold().startswith("aux")]:
                del state[key]
        if state._metadata is None:  # type: ignore[attr-defined]  # safetensors: mnasnet asks which version wrote it
            state._metadata = {"": {"version": network._version}}  # type: ignore[attr-defined]
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise ConfigError(
                f"weights={file} do not fit {self.name} with {len(self._categories())} classes "
                f"(categories={self.settings.categories or 'from the file'}):\n" + "\n".join(str(error).splitlines()[1:4])
            ) from None
