"""The verbs of the command line, and the text that lists them."""

from collections.abc import Mapping

# Verbs that compose Settings.
MODEL_VERBS: Mapping[str, str] = {
    "run": "annotate images; the same command again resumes an interrupted run",
    "sweep": "one run for each combination of comma-separated values, and a table of all runs",
    "inspect": "classes, cost and published accuracy of a model: inspect task=detect model=NAME",
    "duplicates": "find images that occur twice in an input: duplicates input=~/photos",
    "train": "learn the classes of your own annotated images: train task=detect model=NAME "
    "train.data=instances.json",
    "anchors": "find anchor boxes that fit such data: anchors model=NAME train.data=instances.json",
    "export-model": "write a model as a program (ONNX ...): export-model model=NAME to=onnx",
    "bench": "measure the speed of this machine and what limits it: bench task=classify",
}

CATALOGUE_VERB = "models"
_CATALOGUE = "list the models that come with torchvision: models task=segment sort=accuracy"

# Verbs that read finished runs: modules of pipeline/results/commands.
FINISHED_RUN_VERBS: Mapping[str, str] = {
    "report": "one HTML page with a searchable gallery: report run=outputs/latest",
    "evaluate": "accuracy, measured with annotations: evaluate run=outputs/latest "
    "truth=instances.json",
    "compare": "differences between two runs of the same images: compare "
    "runs=[outputs/a,outputs/b]",
    "drift": "whether images and predictions have changed since a run: drift run=NEW reference=OLD",
    "repeats": "boxes that recur at one place of a fixed camera: repeats run=outputs/latest",
    "refilter": "a new run with a stricter filter: refilter run=outputs/latest min_score=0.7",
    "export": "convert to another program's format: export run=outputs/latest to=coco",
    "crops": "each box as an image, in a folder for its class: crops run=outputs/latest",
    "verify": "check that the run folder holds what was committed: verify run=outputs/latest",
}

# Verbs that commit shards. If they are interrupted, the same command resumes.
RESUMABLE_VERBS = frozenset({"run", "sweep", "element"})


def format_usage() -> str:
    """List all verbs."""
    verbs = {**MODEL_VERBS, CATALOGUE_VERB: _CATALOGUE}
    return f"""usage: visionbatch VERB key=value ...

{_format_verbs(verbs)}

These read a finished run and need no model:

{_format_verbs(FINISHED_RUN_VERBS)}

visionbatch VERB --help lists the settings of a verb.
Example: visionbatch run task=detect input=~/photos
"""


def _format_verbs(verbs: Mapping[str, str]) -> str:
    return "\n".join(f"  {verb:<12} {summary}" for verb, summary in verbs.items())
