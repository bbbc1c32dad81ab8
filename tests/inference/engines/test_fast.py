"""engine=fast: its precision, when it compiles, and that compiled code computes the same."""

import shutil

import pytest
import torch
from torch import nn

from pipeline.core.errors import ConfigError
from pipeline.core.types import Model
from pipeline.inference.devices import has_native_bf16
from pipeline.inference.engines import fast
from pipeline.inference.engines.fast import CompiledModule, Fast


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made = self.conv(images).relu()
        return made.mean(dim=(2, 3)), made.amax(dim=(2, 3))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Body()

    def forward(self, inputs: list, sizes_hw: list) -> list:
        return [
            {"logits": one, "embedding": other}
            for one, other in zip(*self.body(torch.stack(list(inputs))), strict=True)
        ]


class Raises(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise self.error


def model(**more) -> Model:
    settings = {"bucket": lambda size: None, "compilable": ("body",)} | more
    return Model(Network(), lambda image: image, **settings)


def images(count: int) -> list[torch.Tensor]:
    return list(torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(count)))


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_the_precision_is_what_the_processor_has(
    native: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.inference.engines.fast.has_native_bf16", lambda device: native)
    assert Fast("cpu", None, False).identity == {"precision": expected}
    assert (
        Fast("cpu", "fp16", False).precision == "fp16" and not Fast("cpu", "fp32", False).is_exact
    )


def test_a_model_of_its_own_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to offer"):
        Fast("cpu", None, False).prepare(model(full_precision_only=True))


def test_images_are_prepared_in_the_fast_way_where_there_is_one() -> None:
    quick = lambda image: image + 1  # noqa: E731
    assert Fast("cpu", None, False).prepare(model(fast_preprocess=quick)).preprocess is quick
    plain = model()
    assert Fast("cpu", None, False).prepare(plain).preprocess is plain.preprocess


@pytest.mark.parametrize(
    ("compile", "images", "many_shapes", "expected"),
    [
        ("auto", 100, False, False),
        ("auto", 5_000, False, True),
        ("auto", 5_000, True, False),
        ("auto", 50_000, True, True),
        (True, 1, True, True),
        (False, 10**9, False, False),
    ],
)
def test_compiled_where_it_pays(compile, images: int, many_shapes: bool, expected: bool) -> None:
    engine = Fast("cpu", None, compile)
    engine.prepare(model(bucket=(lambda size: size) if many_shapes else (lambda size: None)))
    engine.prepare_for_run(images, 8)
    assert isinstance(engine.network.body, CompiledModule) == expected
    if expected:
        assert (engine.network.body.batch_size is None) == many_shapes


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("many_shapes", [False, True])
def test_compiled_gives_what_uncompiled_gives_for_every_batch(many_shapes: bool) -> None:
    engine, plain = Fast("cpu", "fp32", True), model()
    compiled = Model(
        plain.network,
        plain.preprocess,
        (lambda size: size) if many_shapes else plain.bucket,
        compilable=("body",),
    )
    batches = [images(count) for count in (4, 3, 2, 1)]
    with torch.inference_mode():
        expected = [plain.network(batch, []) for batch in batches]
    engine.prepare(compiled)
    engine.prepare_for_run(1, 4)
    for batch, answers in zip(batches, expected, strict=True):
        found = engine.forward(batch, [(16, 16)] * len(batch))
        assert len(found) == len(batch)
        for one, other in zip(found, answers, strict=True):
            torch.testing.assert_close(one["logits"], other["logits"], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(one["embedding"], other["embedding"], atol=1e-5, rtol=1e-5)
    assert engine.network.body._has_run, "it must have been compiled code"


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("precisions", [("fp32", "fp32"), ("fp32", "bf16"), ("bf16", "fp32")])
def test_two_networks_of_one_class_have_each_its_own_weights(
    precisions: tuple[str, str],
) -> None:
    if "bf16" in precisions and not has_native_bf16("cpu"):
        pytest.skip("this CPU has no bf16 of its own, and compiles none")
    engines, expected = [Fast("cpu", precision, True) for precision in precisions], []
    for engine in engines:
        with torch.inference_mode():
            expected.append((own := model()).network(images(2), []))
        engine.prepare(own)
        engine.prepare_for_run(1, 2)
    for _ in range(2):
        for engine, answers, precision in zip(engines, expected, precisions, strict=True):
            found, most = (
                engine.forward(images(2), [(16, 16)] * 2),
                1e-5 if precision == "fp32" else 0.05,
            )
            for one, other in zip(found, answers, strict=True):
                torch.testing.assert_close(one["logits"], other["logits"], atol=most, rtol=most)
            if precision == "bf16":
                assert any(
                    (one["logits"] - other["logits"]).abs().max() > 1e-6
                    for one, other in zip(found, answers, strict=True)
                )
    assert all(engine.network.body._has_run for engine in engines)


def test_bf16_is_not_compiled_where_it_is_emulated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fast, "has_native_bf16", lambda device: False)
    engine = Fast("cpu", "bf16", True)
    engine.prepare(model())
    engine.prepare_for_run(1, 2)
    assert not isinstance(engine.network.body, CompiledModule)
    assert "Not compiled: this CPU computes bf16 by way of fp32" in caplog.text
    assert len(engine.forward(images(2), [(16, 16)] * 2)) == 2


def test_without_a_compiler_it_runs_as_it_is_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Fast("cpu", "fp32", True)
    engine.prepare(model())
    engine.prepare_for_run(1, 2)

    engine.network.body._compiled = Raises(
        RuntimeError("No working C++ compiler found\nand much more")
    )
    for _ in range(2):
        assert len(engine.forward(images(2), [(16, 16)] * 2)) == 2
    assert caplog.text.count("Not compiled, runs as it is: No working C++ compiler found") == 1
    assert "much more" not in caplog.text


def test_an_error_without_a_message_is_named(caplog: pytest.LogCaptureFixture) -> None:
    engine = Fast("cpu", "fp32", True)
    engine.prepare(model())
    engine.prepare_for_run(1, 2)
    engine.network.body._compiled = Raises(RuntimeError())
    assert len(engine.forward(images(2), [(16, 16)] * 2)) == 2
    assert "runs as it is: RuntimeError" in caplog.text


def test_out_of_memory_is_not_taken_for_a_compilers_fault() -> None:
    engine = Fast("cpu", "fp32", True)
    engine.prepare(model())
    engine.prepare_for_run(1, 2)

    engine.network.body._compiled = Raises(torch.OutOfMemoryError("full"))
    with pytest.raises(torch.OutOfMemoryError):
        engine.forward(images(2), [(16, 16)] * 2)
