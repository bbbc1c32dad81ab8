"""Tell which program wrote a PyTorch file, from the names in its pickle. Nothing is executed."""

import pickletools
import zipfile
from pathlib import Path

from pipeline.core.errors import ConfigError

_MAX_PICKLE_BYTES = 64 << 20


def is_program_archive(path: Path) -> bool:
    """Return whether a file is a TorchScript archive: a zip file with a folder `code`."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def refuse_pickled_code(path: Path) -> None:
    """Raise ConfigError for a checkpoint that holds pickled objects of Ultralytics or YOLOv5."""
    modules = list_pickled_modules(path)
    if any(name == "ultralytics" or name.startswith("ultralytics.") for name in modules):
        raise ConfigError(
            f"{path.name} is an Ultralytics checkpoint: pickled code. Make a file of data: "
            f"yolo export model={path.name} format=onnx"
        )
    if any(name.startswith("models.yolo") for name in modules):
        raise ConfigError(
            f"{path.name} is a YOLOv5 checkpoint: pickled code. Make a file of data: "
            f"python export.py --weights {path.name} --include onnx"
        )


def list_pickled_modules(path: Path) -> set[str]:
    """Return the names of the modules that a PyTorch file's pickle imports when it is loaded."""
    if not zipfile.is_zipfile(path):
        return set()
    found: set[str] = set()
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith("/data.pkl") and member.file_size < _MAX_PICKLE_BYTES:
                    found |= _list_modules(archive.read(member))
    except (zipfile.BadZipFile, ValueError, EOFError):
        return found
    return found


def _list_modules(pickled: bytes) -> set[str]:
    """Return the modules of the opcodes GLOBAL and STACK_GLOBAL."""
    found: set[str] = set()
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            found.add(str(argument).split(" ")[0])
        elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
            found.add(texts[-2])
        elif isinstance(argument, str):
            texts.append(argument)
    return found
