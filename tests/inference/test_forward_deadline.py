"""A forward pass has a deadline, which is longer for an engine that compiles."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from pipeline.core.inflight import InFlightTable
from pipeline.core.types import Item, ModelInput, View
from pipeline.inference.forward import ForwardRunner
from pipeline.inference.watchdog import Watchdog


class RecordingTable(InFlightTable):
    """Keeps the deadlines that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines: list[float] = []

    @contextmanager
    def track(self, image_ids: Sequence[int], seconds: float) -> Iterator[None]:
        self.deadlines.append(seconds)
        with super().track(image_ids, seconds):
            yield


@pytest.mark.parametrize(
    ("attributes", "seconds"),
    [({}, 6.0), ({"compiles": False}, 6.0), ({"compiles": True}, 3600.0)],
    ids=["an engine that does not say", "eager", "compiles"],
)
def test_the_deadline_is_timeout_for_each_image(
    attributes: dict[str, bool], seconds: float
) -> None:
    def forward(inputs: Sequence[torch.Tensor], sizes_hw: object) -> list[dict[str, torch.Tensor]]:
        return [{"logits": torch.zeros(2)} for _ in inputs]

    table = RecordingTable()
    engine = SimpleNamespace(device="cpu", precision="fp32", forward=forward, **attributes)
    runner = ForwardRunner(engine, Watchdog(2.0, table), lambda: torch.zeros(3, 8, 8))
    items = [Item(i, f"{i}.png", (8, 8), views=(View((0, 0, 8, 8)),)) for i in range(3)]
    inputs = [ModelInput(item, 0, torch.zeros(3, 8, 8)) for item in items]
    assert len(runner.run(inputs)) == 3
    assert table.deadlines == [seconds]
