"""Vectors as rows."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from torchvision.models import get_model_builder

from pipeline.core.errors import ConfigError
from pipeline.core.types import Item
from pipeline.models.registry import find_format
from pipeline.tasks.embed import Embed
from tests.helpers.pictures import spec_of
from tests.helpers.runs import settings_for

SPEC = spec_of("cat", "dog", embedding_dim=2)
OUTPUTS = [
    {"logits": torch.tensor([0.0, 1.0]), "embedding": torch.tensor([3.0, 4.0])},
    {"logits": torch.tensor([5.0, 1.0]), "embedding": torch.tensor([0.0, 2.0])},
]


@pytest.mark.parametrize(
    ("normalize", "expected"), [(False, [[3, 4], [0, 2]]), (True, [[0.6, 0.8], [0, 1]])]
)
def test_one_row_an_image_with_a_vector_of_fixed_size(normalize: bool, expected: list) -> None:
    task = Embed(SPEC, normalize=normalize)
    rows = task.make_rows(OUTPUTS, [Item(0, "a"), Item(1, "b")])
    assert rows.schema.field("embedding").type == pa.list_(pa.float32(), 2)
    np.testing.assert_allclose(rows["embedding"].to_pylist(), expected, rtol=1e-6)
    assert rows["class_name"].to_pylist() == ["dog", "cat"]


@pytest.mark.parametrize(
    ("name", "dim"),
    [
        ("resnet50", 2048),
        ("vit_b_16", 768),
        ("squeezenet1_1", 512),
        ("vgg11", 4096),
        ("inception_v3", 2048),
    ],
)
def test_the_size_is_known_before_any_weights_are_loaded(name: str, dim: int) -> None:
    spec = find_format(settings_for("task=embed", f"model={name}", "input=.")).describe()
    assert spec.embedding_dim and spec.embedding_dim() == dim


def test_it_is_the_input_of_the_head() -> None:
    model = find_format(
        settings_for("task=embed", "model=resnet18", "weights=random", "input=.")
    ).load()
    image = model.preprocess(torch.randint(0, 256, (3, 80, 60), dtype=torch.uint8))
    with torch.inference_mode():
        found = model.network([image], [(80, 60)])[0]["embedding"]
        torch.manual_seed(0)
        plain = get_model_builder("resnet18")(weights=None).eval()
        plain.fc = torch.nn.Identity()
        torch.testing.assert_close(found, plain(model.network.body.normalize(image[None]))[0])


def test_a_model_without_a_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="gives no embedding"):
        Embed(SPEC.__class__(**{**vars(SPEC), "embedding_dim": None}), normalize=True)
