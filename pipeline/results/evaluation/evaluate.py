"""Evaluate a finished run against annotations, by the method that its task declares."""

from pathlib import Path

from pipeline.annotations.read_annotations import has_format
from pipeline.config.task_classes import find_task
from pipeline.core.errors import ConfigError
from pipeline.core.task_roles import EvaluationMethod
from pipeline.results.evaluation.result import Evaluation
from pipeline.runs.finished_run import FinishedRun


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
        truth: for detection and segmentation a data set that training reads (COCO, YOLO, VOC), for
            segmentation also a folder of label maps; for classification a table or a folder with
            a sub-folder for each class.
        score: lowest score of the detections that the confusion matrix of boxes counts.

    Raises:
        ConfigError: the task cannot be evaluated, or this truth does not fit it.
    """
    methods = list_evaluation_methods(run.task)
    if not truth.exists():
        raise ConfigError(f"truth={truth}: there is no such file or folder.")

    if EvaluationMethod.CLASSIFICATION not in methods and not (
        truth.is_dir() or has_format(truth, run.task)
    ):
        folder = " or a folder of label maps (PNG)" * (EvaluationMethod.SEGMENTATION in methods)
        raise ConfigError(
            f"truth={truth}: a run of task={run.task} is evaluated with COCO's JSON file, YOLO's "
            f"data.yaml, a folder in VOC's layout{folder}."
        )

    if EvaluationMethod.DETECTION in methods and (
        truth.is_file() or has_format(truth, run.task) or len(methods) == 1
    ):
        from pipeline.results.evaluation.detection import evaluate_detection

        return evaluate_detection(run, truth, score)
    if EvaluationMethod.SEGMENTATION in methods:
        from pipeline.results.evaluation.segmentation import evaluate_segmentation

        return evaluate_segmentation(run, truth)
    from pipeline.results.evaluation.classification import evaluate_classification

    return evaluate_classification(run, truth)
