"""The one entrance: a finished run and its truth -> figures."""

from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.tables import describe_contents
from pipeline.results.evaluation.result import Evaluation
from pipeline.runs.finished_run import FinishedRun


def evaluate(run: FinishedRun, truth: Path, score: float = 0.5) -> Evaluation:
    """By what the run has: boxes, masks and keypoints beside a file in COCO's format; masks beside a folder of label maps;
    classes of whole images beside a table or class folders. `score`: of the confusion matrix of boxes. Raises
    ConfigError."""
    if not truth.exists():
        raise ConfigError(f"truth={truth}: there is no such file or folder.")
    there = describe_contents(run.schema)
    if "boxes" in there and truth.is_file():
        from pipeline.results.evaluation.detection import evaluate_detection

        return evaluate_detection(run, truth, score)
    if "masks" in there and truth.is_dir():
        from pipeline.results.evaluation.segmentation import evaluate_segmentation

        return evaluate_segmentation(run, truth)
    if "labels" in there:
        from pipeline.results.evaluation.classification import evaluate_classification

        return evaluate_classification(run, truth)
    expected = (
        "a folder of label maps (PNG)" if "masks" in there else "a JSON file in COCO's format"
    )
    raise ConfigError(f"truth={truth}: a run of task={run.task} is evaluated with {expected}.")
