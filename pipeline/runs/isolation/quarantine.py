"""Inputs that a runner had in hand when it died. The next one tries each alone; who kills a runner then too is given up: it
gets a row that says so, and the run goes on without it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase

from pipeline.core.inflight import InFlightTable, WorkerDeath
from pipeline.core.types import ExcludedInput, Shard, Status
from pipeline.inference.predictor import Predictor
from pipeline.runs.plan import Plan
from pipeline.runs.run_folder import RunFolder


class Quarantine:
    """Kept in the run folder, so that whoever resumes the run knows them too. Each writer has a file of its own; all are
    read. What another writer only suspected is tried by who writes alone; beside others, when it has killed this one too."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        name = folder.writer.name
        self.file = f"suspects-{name}.json" if name else "suspects.json"
        known = {file: json.loads(folder.local(file).read_text()) for file in self._files()}
        given_up = [one for file in known.values() for one in file["given_up"].items()]
        self._given_up = {
            int(image_id): ExcludedInput(Status(one["status"]), one["error"])
            for image_id, one in given_up
        }
        mine = known.values() if not name else [known[self.file]] if self.file in known else []
        self.suspects: set[int] = {image_id for file in mine for image_id in file["to_try"]} - set(
            self._given_up
        )

    @property
    def excluded(self) -> Mapping[int, ExcludedInput]:
        """By image_id."""
        return self._given_up

    def record_death(self, death: WorkerDeath | None, board: InFlightTable) -> None:
        """What the last runner had in hand is to be tried; if that was one input, for the second time, it is given up."""
        if death is None:
            return
        alone = death.image_ids[0] if len(death.image_ids) == 1 else None
        if alone in self.suspects:
            said = f"{death.reason} in two tries, the second with this input alone"
            self._given_up[alone] = ExcludedInput(Status(death.status), said)
            self.suspects.remove(alone)
            board.count_progress()
        else:
            self.suspects.update(set(death.image_ids) - set(self._given_up))
        self._publish()

    def release_all(self) -> None:
        """Those that were given up are tried as if nothing had been."""
        self._given_up.clear()
        self._publish()

    def try_suspects(self, plan: Plan, predictor: Predictor) -> None:
        """Through the model, one after the other. A runner that this kills has one input in hand."""
        for image_id in sorted(self.suspects):
            shard = plan.find_shard(image_id)
            alone = Shard(
                shard.shard_id, image_id, (shard.entries[image_id - shard.first_image_id],)
            )
            for _ in predictor.predict([alone]):
                pass
            self.suspects.remove(image_id)
        self._publish()

    def _publish(self) -> None:
        given_up = {str(image_id): asdict(one) for image_id, one in sorted(self._given_up.items())}
        files = self._files()
        if self.suspects or given_up or files:
            self.folder.publish_json(
                self.file, {"to_try": sorted(self.suspects), "given_up": given_up}
            )
        if not self.folder.writer.name:  # who writes alone keeps what they held in its own
            for file in set(files) - {self.file}:
                self.folder.store.remove(file)

    def _files(self) -> list[str]:
        """Of all writers there have been."""
        return [
            name for name in self.folder.store.list_files("") if fnmatchcase(name, "suspects*.json")
        ]
