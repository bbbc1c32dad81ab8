"""Evaluate a finished run against annotations, by the method that its task declares."""

from pathlib import Path

from pipeline.config.task_classes import find_task
from pipeline.core.errors import ConfigError
from pipeline.core.task_roles import EvaluationMethod
from pipeline.results.evaluation.result import Evaluation
from pipeline.runs.finished_run import FinishedRun

_FILE = "a JSON file in COCO's format"
_FOLDER = "a folder of label maps (PNG)"


def list_evaluation_methods(task: str) -> tuple[EvaluationMethod, ...]:
    """Return the methods that evaluate runs of a task.

    Raises:
        ConfigError: runs of the task cannot be evaluated.
    """
    methods = find_task(task).evaluations
    if isinstance(methods, str):
        raise ConfigError(f"task={task} cannot be evaluated: {methods}")
    return methods


def evaluate(run: FinishedRun, truth: Path, score: float = 0.5) -> Evaluation:
    """Measure the accuracy of a run.

    Args:
        truth: a file in COCO's format for detection, a folder of label maps for segmentation, a
            table or a folder with a sub-folder for each class for classification.
        score: lowest score of the detections that the confusion matrix of boxes counts.

    Raises:
        ConfigError: the task cannot be evaluated, or this truth does not fit it.
    """
    methods = list_evaluation_methods(run.task)
    if not truth.exists():
        raise ConfigError(f"truth={truth}: there is no such file or folder.")

    if EvaluationMethod.DETECTION in methods and truth.is_file():
        from pipeline.results.evaluation.detection import evaluate_detection

        return evaluate_detection(run, truth, score)
    if EvaluationMethod.SEGMENTATION in methods and truth.is_dir():
        from pipeline.results.evaluation.segmentation import evaluate_segmentation

        return evaluate_segmentation(run, truth)
    if EvaluationMethod.CLASSIFICATION in methods:
        from pipeline.results.evaluation.classification import evaluate_classification

        return evaluate_classification(run, truth)
    expected = _FOLDER if EvaluationMethod.SEGMENTATION in methods else _FILE
    raise ConfigError(f"truth={truth}: a run of task={run.task} is evaluated with {expected}.")
