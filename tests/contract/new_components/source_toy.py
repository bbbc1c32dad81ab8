"""Images in a text file, one base64-encoded image on each line."""

import base64
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from pipeline.core.errors import ConfigError
from pipeline.core.keys import path_to_key
from pipeline.core.protocols import ImageDecoder
from pipeline.core.recorded_inputs import ImageReader, RecordedSource
from pipeline.core.schema import make_carried_field
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.image_file_reader import ImageFileReader
from pipeline.inputs.image_source import ImageSource


class Toy(ImageSource):
    """Lists the lines of a file by their number. The file has up to a million lines."""

    columns = (make_carried_field("line", pa.int64()),)

    def __init__(self, file: str, image_decoder: ImageDecoder | None = None) -> None:
        super().__init__(image_decoder)
        self.file = check_file(Path(file).resolve())
        self.identity = f"toy:{path_to_key(str(self.file))}"

    def entries(self) -> Iterator[Entry]:
        mtime_ns, offset = self.file.stat().st_mtime_ns, 0
        with self.file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                size = len(base64.b64decode(line))
                yield Entry(f"line-{number:06d}", size, mtime_ns, (number,), offset)
                offset += len(line)

    def open(self, entry: Entry) -> BinaryIO:
        return open_line(self.file, entry)

    @classmethod
    def reopen(cls, recorded: RecordedSource) -> ImageReader:
        return ImageFileReader(partial(open_line, check_file(Path(str(recorded.input)))))


def check_file(file: Path) -> Path:
    """Return the path. Raises ConfigError if no file is there."""
    if not file.is_file():
        raise ConfigError(f"input={file}: expected a text file of base64-encoded images.")
    return file


def open_line(file: Path, entry: Entry) -> BinaryIO:
    """Open the image on the line that begins at the entry's offset."""
    with file.open("rb") as lines:
        lines.seek(entry.offset)
        try:
            return io.BytesIO(base64.b64decode(lines.readline(), validate=False))
        except ValueError as error:
            raise InputError(Status.CORRUPT, f"no base64: {error}") from None
