"""Make archives for tests, with members that no packing program would make."""

import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from pipeline.core.types import Entry, InputError
from pipeline.inputs.archives.members import ArchiveMembers
from pipeline.inputs.archives.tar_format import TAR
from pipeline.inputs.archives.zip_format import ZIP
from tests.helpers.pictures import picture
from tests.helpers.runs import read

KINDS = {"tar": TAR, "zip": ZIP}


def image(seed: int = 0, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    picture(40, 30, seed=seed).save(file, kind)
    return file.getvalue()


def tar_of(
    path: Path, members: Iterable[tuple[str, bytes]], form: int = tarfile.GNU_FORMAT
) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_600_000_000
            tar.addfile(info, io.BytesIO(data))
    return path


def special(path: Path, name: str, kind: bytes, target: str = "") -> None:
    """Append a member that is no regular file, such as a link, a device or a folder."""
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        tar.addfile(info)


def zip_of(
    path: Path, members: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> Path:
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, data in members:
            info = zipfile.ZipInfo(name, (2020, 9, 13, 12, 26, 40))
            info.compress_type = method
            packed.writestr(info, data)
    return path


def pack(kind: str, path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    return tar_of(path, members) if kind == "tar" else zip_of(path, members)


def pack_folder(kind: str, folder: Path, path: Path) -> Path:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return pack(kind, path, [(str(file.relative_to(folder)), file.read_bytes()) for file in files])


def listed(kind: str, root: Path) -> tuple[ArchiveMembers, list[Entry]]:
    archives = ArchiveMembers(str(root), KINDS[kind])
    entries = list(archives.entries())
    keys = [entry.key for entry in entries]
    assert keys == sorted(set(keys)), "sorted, each once"
    return archives, entries


def verdict(archives: ArchiveMembers, entry: Entry) -> str:
    """Read a member; return `ok`, or the status and message of its error."""
    try:
        with archives.open(entry) as file:
            file.read()
    except InputError as error:
        return f"{error.status}: {error}"
    return "ok"


def verdicts(kind: str, root: Path) -> dict[str, str]:
    """Return the verdict of each member by its key below the archive."""
    archives, entries = listed(kind, root)
    return {entry.key.partition("/")[2]: verdict(archives, entry) for entry in entries}


def same_rows(packed: Path, folder: Path, archive: str) -> None:
    """Check that a run over an archive has the rows of a run over the folder it was made from."""
    for kind in ("images", "predictions"):
        one, other = read(packed, kind), read(folder, kind)
        assert [key.removeprefix(f"{archive}/") for key in one["key"].to_pylist()] == other[
            "key"
        ].to_pylist()
        mine = one.drop_columns(["key", "archive", "member"]).replace_schema_metadata()
        assert len(mine) > 0 and mine.equals(other.drop_columns(["key"]).replace_schema_metadata())


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return path -> (mode, time of change, contents) of all that is below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if "outputs" not in path.parts:
            about = path.lstat()
            found[str(path)] = (
                about.st_mode,
                about.st_mtime_ns,
                path.read_bytes() if path.is_file() else b"",
            )
    return found
