"""Build and check the components that the settings name, and load the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pipeline.config.instantiate import instantiate, resolve_class
from pipeline.config.settings import Settings
from pipeline.config.task_classes import list_served_tasks
from pipeline.core.errors import ConfigError
from pipeline.core.inflight import InFlightTable
from pipeline.core.output_protocols import Sink
from pipeline.core.protocols import Engine, Format, Source, Task
from pipeline.core.schema import add_source_columns
from pipeline.core.task_roles import ViewMerging
from pipeline.core.types import Entry, ExcludedInput, Model, ModelSpec
from pipeline.inference.auto_batch_size import find_fastest_batch_size
from pipeline.inference.engine_base import BaseEngine
from pipeline.inference.loader import Loader
from pipeline.inference.memory_plan import ImageLimits
from pipeline.inference.predictor import Predictor
from pipeline.inference.views import Views
from pipeline.inference.watchdog import Watchdog
from pipeline.inputs.decoding.image import CpuImageDecoder
from pipeline.inputs.decoding.nvjpeg import build_gpu_decoder
from pipeline.inputs.decoding.pixel_options import AS_STORED, PixelOptions
from pipeline.models.registry import find_format
from pipeline.ops.filters import Filters, make_score_thresholds
from pipeline.runs.duplicates.find import require_image_files


@dataclass(frozen=True)
class Components:
    """The components of a run, built and checked before weights are loaded or images are opened."""

    source: Source
    format: Format
    spec: ModelSpec
    task: Task
    filters: Filters
    views: Views
    engine: Engine
    batch_size: int | None  # None: measured after the model is loaded
    sinks: Mapping[str, Sink]  # by name, without sinks that are switched off


def build_components(settings: Settings) -> Components:
    """Build and check all components without loading weights. Raises ConfigError."""
    if settings.input is None:
        raise ConfigError(f"task={settings.task} has no samples to run on: say input=FOLDER.")
    if "parquet" not in settings.components["sink"]:
        raise ConfigError(
            "sink=[...] must name parquet: without its tables a run leaves no result."
        )
    engine = instantiate(settings.components["engine"])
    source = build_source(settings, engine.device)
    model = find_format(settings)
    spec = model.describe()
    served = list_served_tasks(spec.outputs, spec.takes_clips)
    if settings.task not in served:
        raise ConfigError(f"model={spec.name} does {', '.join(served)}, not task={settings.task}.")
    task = instantiate(settings.components["task"], spec=spec)
    check_clips(settings, task, source, spec)
    # Raises ConfigError for columns whose names the task uses itself.
    add_source_columns(task.schema, source.columns)
    filters = build_filters(settings, task, spec.categories)
    sinks = build_sinks(settings)
    views = build_views(settings, task, spec)
    if settings.skip_duplicates:
        require_image_files(source)
    return Components(
        source,
        model,
        spec,
        task,
        filters,
        views,
        engine,
        build_batch_size(settings, engine.device),
        sinks,
    )


def build_source(settings: Settings, device: str) -> Source:
    """Build the source with the image decoder that `jpeg=`, `levels=` and `bands=` select.

    Raises:
        ConfigError: One of them is given, and the source has no image files.
    """
    node = settings.components["source"]
    options = PixelOptions(settings.levels, settings.bands)
    given = {
        "jpeg=gpu": settings.jpeg == "gpu",
        "levels=": options.levels != AS_STORED.levels,
        "bands=": options.bands != AS_STORED.bands,
    }
    for_files = [name for name, is_given in given.items() if is_given]
    if not for_files:
        return cast(Source, instantiate(node))
    if not cast(Any, resolve_class(node)).has_image_files:
        raise ConfigError(f"{for_files[0]} is for image files; this source has none. Leave it out.")
    is_gpu = settings.jpeg == "gpu"
    decoder = build_gpu_decoder(device, options) if is_gpu else CpuImageDecoder(options)
    return cast(Source, instantiate(node, image_decoder=decoder))


def build_sinks(settings: Settings) -> dict[str, Sink]:
    """Build the sinks that the settings name, without sinks that are switched off."""
    nodes = settings.components["sink"]
    return {name: instantiate(node) for name, node in nodes.items() if node.get("enabled", True)}


def build_batch_size(settings: Settings, device: str) -> int | None:
    """Return the configured batch size or the task's default for the device; None for `auto`."""
    if settings.batch_size is None:
        presets = settings.components["task"]["presets"]["batch_size"]
        return int(presets["cpu" if device == "cpu" else "gpu"])
    return None if settings.batch_size == "auto" else int(settings.batch_size)


def check_clips(settings: Settings, task: Task, source: Source, spec: ModelSpec) -> None:
    """Raise ConfigError unless source, task and model agree on images or on clips."""
    if task.takes_clips and source.clip_length is None:
        raise ConfigError(
            f"task={settings.task} takes clips of videos: say source=clips, or leave source= out."
        )
    if source.clip_length is not None and not task.takes_clips:
        raise ConfigError(
            f"source=clips is for task=video. For task={settings.task} on frames of videos say "
            "source=video."
        )
    if source.clip_length is not None and source.clip_length not in spec.clip_lengths:
        lengths = spec.clip_lengths
        expected = f"{'at least ' if len(lengths) > 1 else ''}{lengths.start}"
        raise ConfigError(
            f"source.length={source.clip_length}: model={spec.name} takes clips of {expected} "
            "frames."
        )


def build_filters(settings: Settings, task: Task, categories: Sequence[str]) -> Filters:
    """Build the filters. Raises ConfigError for a filter that the task does not have."""
    for name in ("min_area", "nms_iou", "max_detections", "top_k"):
        if getattr(settings, name) is not None and name not in task.filters:
            raise ConfigError(
                f"{name} means nothing to task={task.name}, which has: "
                f"{', '.join(sorted(task.filters))}."
            )
    thresholds = make_score_thresholds(
        categories, settings.classes, settings.exclude, settings.min_score
    )
    return Filters(thresholds, settings.min_area, settings.nms_iou, settings.max_detections)


def build_views(settings: Settings, task: Task, spec: ModelSpec) -> Views:
    """Build the views of an image. Raises ConfigError for views whose results cannot be merged."""
    tiles, merging = settings.tiles, task.merging
    if tiles.size is not None and merging not in (ViewMerging.BOXES, ViewMerging.SHAPES):
        raise ConfigError(
            f"tiles.size means nothing to task={task.name}, which has no boxes to put together; "
            "leave it out."
        )
    if tiles.merge == "nmm" and merging is ViewMerging.SHAPES:
        shapes = " and ".join(sorted(task.needs - {"boxes"}))
        raise ConfigError(
            f"tiles.merge=nmm joins boxes only; task={task.name} has {shapes} too. "
            "Say tiles.merge=nms."
        )
    if settings.flip and merging is ViewMerging.NONE:
        raise ConfigError(
            f"flip=true means nothing to task={task.name}, which cannot put the results of an "
            "image "
            "and its mirror image together; leave it out."
        )
    if settings.flip and "keypoints" in task.needs and not spec.keypoint_names:
        raise ConfigError(
            f"flip=true: model={spec.name} does not name its points: left and right cannot be "
            "exchanged."
        )
    union = tiles.merge == "nmm"
    return Views(tiles.size, tiles.overlap, tiles.iou, union, settings.flip, spec.keypoint_names)


def load_predictor(
    settings: Settings,
    parts: Components,
    images: int,
    first: Sequence[Entry],
    excluded: Mapping[int, ExcludedInput] | None = None,
) -> Predictor:
    """Load the model and prepare it with the chosen engine.

    Args:
        settings: The settings of the run.
        parts: The components.
        images: Number of images that the engine should expect.
        first: Entries to measure the batch size with, for `batch_size=auto`.
        excluded: Inputs that must not be read, by image_id.
    """
    engine = parts.engine
    limits = find_image_limits(settings)
    model = engine.prepare(parts.format.load())
    batch_size = parts.batch_size or find_fastest_batch_size(
        engine, model, parts.source, first, limits
    )
    engine.prepare_for_run(images, batch_size)
    return _build_predictor(settings, parts, engine, model, batch_size, excluded or {})


def load_reference(settings: Settings, parts: Components, predictor: Predictor) -> Predictor:
    """Load the model again, in fp32, with the batch size and excluded inputs of `predictor`."""
    engine = BaseEngine(parts.engine.device, "fp32")
    return _build_predictor(
        settings,
        parts,
        engine,
        engine.prepare(parts.format.load()),
        predictor.batch_size,
        predictor.excluded,
    )


def _build_predictor(
    settings: Settings,
    parts: Components,
    engine: Engine,
    model: Model,
    batch_size: int,
    excluded: Mapping[int, ExcludedInput],
) -> Predictor:
    loader = Loader(
        parts.source,
        model,
        batch_size,
        settings.workers,
        find_image_limits(settings),
        parts.views,
        upload=engine.make_uploader(),
        overlap=engine.device != "cpu",
        watchdog=Watchdog(settings.timeout, InFlightTable.attach()),
        excluded=excluded,
    )
    return Predictor(loader, engine, parts.task, parts.filters.apply)


def find_image_limits(settings: Settings) -> ImageLimits:
    """Return the limits of one image and of the memory that the settings name."""
    return ImageLimits(settings.max_pixels, settings.max_aspect, settings.memory)
