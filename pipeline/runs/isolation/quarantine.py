"""Find the input that kills runners, and exclude it.

Inputs that a runner was working on when it died are suspects. The next runner tries each of them
alone. An input that kills this runner too is excluded: its row says so, and the run goes on without
it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase

from pipeline.core.inflight import InFlightTable, WorkerDeath
from pipeline.core.types import ExcludedInput, Shard, Status
from pipeline.runs.plan import Plan
from pipeline.runs.run_folder import RunFolder


class Quarantine:
    """Suspected and excluded inputs of a run, kept in the run folder for later sessions.

    Each writer has a file of its own and reads all of them. A single writer tries the suspects of
    all files. One of several writers tries only its own; an input that another writer suspects
    becomes its suspect when it kills this writer too.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        name = folder.writer.name
        self.file = f"suspects-{name}.json" if name else "suspects.json"
        known = {file: json.loads(folder.local(file).read_text()) for file in self._list_files()}
        self._excluded = {
            int(image_id): ExcludedInput(Status(item["status"]), item["error"])
            for content in known.values()
            for image_id, item in content["given_up"].items()
        }
        own = [content for file, content in known.items() if not name or file == self.file]
        suspects = {image_id for content in own for image_id in content["to_try"]}
        self.suspects: set[int] = suspects - set(self._excluded)

    @property
    def excluded(self) -> Mapping[int, ExcludedInput]:
        """Inputs that must not be read, by image_id."""
        return self._excluded

    def record_death(self, death: WorkerDeath | None, table: InFlightTable) -> None:
        """Suspect the in-flight inputs of the dead runner. Exclude a suspect that ran alone."""
        if death is None:
            return
        alone = death.image_ids[0] if len(death.image_ids) == 1 else None
        if alone in self.suspects:
            error = f"{death.reason} in two tries, the second with this input alone"
            self._excluded[alone] = ExcludedInput(Status(death.status), error)
            self.suspects.remove(alone)
            table.count_progress()
        else:
            self.suspects.update(set(death.image_ids) - set(self._excluded))
        self._publish()

    def release_all(self) -> None:
        """Forget the excluded inputs, so that they are tried like any other input."""
        self._excluded.clear()
        self._publish()

    def try_suspects(self, plan: Plan, process: Callable[[Shard], object]) -> None:
        """Process each suspect alone, as a shard of one input.

        If `process` kills this process, the in-flight table names that one input, and the next
        process excludes it.
        """
        for image_id in sorted(self.suspects):
            process(plan.find_input(image_id))
            self.suspects.remove(image_id)
        self._publish()

    def _publish(self) -> None:
        given_up = {
            str(image_id): asdict(item) for image_id, item in sorted(self._excluded.items())
        }
        files = self._list_files()
        if self.suspects or given_up or files:
            content = {"to_try": sorted(self.suspects), "given_up": given_up}
            self.folder.publish_json(self.file, content)
        if not self.folder.writer.name:  # the single writer's file now has the content of all files
            for file in set(files) - {self.file}:
                self.folder.store.remove(file)

    def _list_files(self) -> list[str]:
        """Return the files of all writers so far."""
        names = self.folder.store.list_files("")
        return [name for name in names if fnmatchcase(name, "suspects*.json")]
