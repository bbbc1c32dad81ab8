"""Deadlines for work on inputs, kept where the supervisor can read them."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from pipeline.core.inflight import InFlightTable


@dataclass(frozen=True)
class Watchdog:
    """Registers work on inputs in the in-flight table, with a deadline.

    The supervisor kills a process that misses a deadline, and learns from the table which inputs
    were in work.

    Args:
        timeout: seconds in which one input is read and decoded.
        in_flight: the table that the supervisor reads.
    """

    timeout: float = math.inf
    in_flight: InFlightTable = field(default_factory=InFlightTable)

    def watch(self, image_ids: Sequence[int]) -> AbstractContextManager[None]:
        """Register that this thread reads and decodes these inputs inside the `with` block."""
        return self.in_flight.track(image_ids, self.timeout * len(image_ids))
