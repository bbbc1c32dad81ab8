"""Assemble a `Model` from a torchvision network and its preprocessing."""

from torch import nn

from pipeline.core.types import Model
from pipeline.models.networks.classifier import ClassifierNetwork
from pipeline.models.networks.detector import DetectorNetwork
from pipeline.models.networks.segmenter import SegmenterNetwork
from pipeline.models.preprocessing import Preprocessing, Transform


def assemble_detector(network: nn.Module, channels: str, sha256: str | None) -> Model:
    """Assemble the model of a torchvision detector, which has its own preprocessing.

    Args:
        network: The detector, with its weights.
        channels: `rgb` or `bgr`, the order that the weights expect.
        sha256: SHA-256 of the weights' file.
    """
    wrapped = DetectorNetwork(network)
    return Model(
        wrapped,
        _reorder_channels(wrapped.preprocess, channels),
        wrapped.compute_bucket,
        sha256,
        fast_preprocess=_reorder_channels(wrapped.fast_preprocess, channels),
        compilable=wrapped.compilable,
    )


def assemble_from_preset(
    network: nn.Module,
    preset: Transform,
    channels: str,
    sha256: str | None,
    is_segmenter: bool,
    quantized: bool,
) -> Model:
    """Assemble the model of a classifier or a segmenter.

    Args:
        network: The network, with its weights.
        preset: torchvision's preprocessing of the weights.
        channels: `rgb` or `bgr`, the order that the weights expect.
        sha256: SHA-256 of the weights' file.
        is_segmenter: Whether the network is a segmenter.
        quantized: Whether the network computes in int8, which is possible on a CPU only.
    """
    halves = Preprocessing.from_preset(preset)
    wrapped: ClassifierNetwork | SegmenterNetwork
    if is_segmenter:
        wrapped = SegmenterNetwork(network, halves.resize, halves.normalize)
    else:
        wrapped = ClassifierNetwork(network, halves.normalize)
    fast_resize = halves.fast_resize
    return Model(
        wrapped,
        _reorder_channels(halves.resize, channels),
        wrapped.compute_bucket,
        sha256,
        full_precision_only=quantized,
        cpu_only=quantized,
        compilable=() if quantized else wrapped.compilable,
        fast_preprocess=_reorder_channels(fast_resize, channels) if fast_resize else None,
    )


def _reorder_channels(transform: Transform, channels: str) -> Transform:
    """Return the transform for RGB images, where the weights expect `channels`."""
    if channels == "bgr":
        return lambda image: transform(image.flip(0))
    return transform
