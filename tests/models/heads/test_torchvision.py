"""The head of a program that no other head recognises."""

from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.models.programs.choose_head import choose_head, find_head_class
from pipeline.models.programs.head import ProgramFacts
from pipeline.models.programs.signature import ProgramSignature
from tests.helpers.own_files import CLASSIFIER, SEGMENTER
from tests.helpers.runs import settings_for

LOGITS = ProgramSignature((None, 3, 224, 224), {"out": (None, 1000)}, (None, 1000), (1, None))


def make_facts(signature: ProgramSignature | None = None) -> ProgramFacts:
    return ProgramFacts(Path("a.onnx"), (".onnx",), signature, {"author": "somebody"})


@pytest.mark.parametrize(
    ("words", "output", "takes_one_image"),
    [
        (["task=classify", "categories=imagenet", CLASSIFIER], "logits", False),
        (["task=segment", "categories=imagenet", SEGMENTER], "probabilities", False),
        (["task=detect", "categories=coco"], "boxes", True),
    ],
)
def test_the_task_decides_what_the_program_returns(
    words: list[str], output: str, takes_one_image: bool
) -> None:
    facts = make_facts()
    assert find_head_class(facts).explain_match(facts) is None
    settings = settings_for("model=onnx", "input=.", *words)
    head = choose_head(facts, settings)
    assert head.outputs == {output}
    assert head.takes_one_image(settings.task) == takes_one_image


def test_the_shapes_are_compared_with_the_settings() -> None:
    words = ["model=onnx", "input=.", "task=classify", CLASSIFIER]
    head = choose_head(make_facts(LOGITS), settings_for(*words, "categories=imagenet"))
    assert len(head.categories) == 1000
    with pytest.raises(ConfigError, match="has 1000 outputs, but categories=coco has 91 names"):
        choose_head(make_facts(LOGITS), settings_for(*words, "categories=coco"))


def test_a_task_that_no_program_serves_is_refused() -> None:
    with pytest.raises(ConfigError, match="can do classify, detect or segment, not task=embed"):
        choose_head(make_facts(), settings_for("model=onnx", "input=.", "task=embed"))
