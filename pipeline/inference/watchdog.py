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
        timeout: seconds in which one input is read and decoded, or passes through the network.
        in_flight: the table that the supervisor reads.
    """

    timeout: float = math.inf
    in_flight: InFlightTable = field(default_factory=InFlightTable)

    def watch(self, image_ids: Sequence[int], least: float = 0.0) -> AbstractContextManager[None]:
        """Register that this thread works on these inputs inside the `with` block.

        The deadline is `timeout` for each input, and at least `least` seconds.
        """
        return self.in_flight.track(image_ids, max(least, self.timeout * len(image_ids)))
