"""Inputs that a runner had in hand when it died. The next one tries each alone; who kills a runner then too is given up: it
gets a row that says so, and the run goes on without it."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from pipeline.board import Board, Death
from pipeline.commit import RunFolder
from pipeline.plan import Plan
from pipeline.predict import Predictor
from pipeline.types import GivenUp, Shard, Status

_FILE = "suspects.json"


class Suspects:
    """Kept in the run folder, so that whoever resumes the run knows them too."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        path = folder.local(_FILE)
        known = json.loads(path.read_text()) if path.is_file() else {"to_try": [], "given_up": {}}
        self.to_try: set[int] = set(known["to_try"])
        self._given_up = {int(i): GivenUp(Status(one["status"]), one["error"]) for i, one in known["given_up"].items()}

    @property
    def given_up(self) -> Mapping[int, GivenUp]:
        """By image_id."""
        return self._given_up

    def learn(self, death: Death | None, board: Board) -> None:
        """What the last runner had in hand is to be tried; if that was one input, for the second time, it is given up."""
        if death is None:
            return
        alone = death.image_ids[0] if len(death.image_ids) == 1 else None
        if alone in self.to_try:
            said = f"{death.reason} in two tries, the second with this input alone"
            self._given_up[alone] = GivenUp(Status(death.status), said)
            self.to_try.remove(alone)
            board.advance()
        else:
            self.to_try.update(set(death.image_ids) - set(self._given_up))
        self._publish()

    def forgive(self) -> None:
        """Those that were given up are tried as if nothing had been."""
        self._given_up.clear()
        self._publish()

    def try_each(self, plan: Plan, predictor: Predictor) -> None:
        """Through the model, one after the other. A runner that this kills has one input in hand."""
        for image_id in sorted(self.to_try):
            shard = plan.shard_of(image_id)
            alone = Shard(shard.shard_id, image_id, (shard.entries[image_id - shard.first_image_id],))
            for _ in predictor.answered([alone]):
                pass
            self.to_try.remove(image_id)
        self._publish()

    def _publish(self) -> None:
        given_up = {str(image_id): asdict(one) for image_id, one in sorted(self._given_up.items())}
        if self.to_try or given_up or self.folder.local(_FILE).is_file():
            self.folder.publish_json(_FILE, {"to_try": sorted(self.to_try), "given_up": given_up})
