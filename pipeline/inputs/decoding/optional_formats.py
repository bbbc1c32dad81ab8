"""Formats that are decoded if a package of an extra is installed: HEIF and JPEG XL."""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.formats import HEIF, JPEG_XL


class MissingPackage(InputError):
    """A file's format needs a package. The message says what to type."""


@dataclass(frozen=True)
class OptionalFormat:
    """A format that a plug-in of Pillow decodes."""

    pillow_name: str
    package: str
    module: str
    extra: str  # in pyproject.toml

    def find_version(self) -> str | None:
        """Return the version of the installed package, or None."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


OPTIONAL_FORMATS = {
    HEIF: OptionalFormat("HEIF", "pillow-heif", "pillow_heif", "heif"),
    JPEG_XL: OptionalFormat("JXL", "pillow-jxl-plugin", "pillow_jxl", "jxl"),
}


def describe_installed() -> str:
    """Return the installed packages with their versions, for the name of the decoder."""
    versions = {each.package: each.find_version() for each in OPTIONAL_FORMATS.values()}
    return "".join(f", {package} {found}" for package, found in versions.items() if found)


def load_optional(name: str) -> str:
    """Register the plug-in of a format with Pillow, and return Pillow's name of the format.

    Raises:
        InputError: UNSUPPORTED; the message says what to install.
    """
    wanted = OPTIONAL_FORMATS[name]
    problem = _register(name)
    if problem is not None:
        raise MissingPackage(
            Status.UNSUPPORTED,
            f"{name} files need {wanted.package}{problem}: pip install "
            f"'visionbatch[{wanted.extra}]', and run again",
        )
    return wanted.pillow_name


@cache
def _register(name: str) -> str | None:
    """Register a plug-in once. Return None, or why it cannot be used: text or an empty text."""
    wanted = OPTIONAL_FORMATS[name]
    if wanted.find_version() is None:
        return ""
    try:
        module = import_module(wanted.module)
        if name == HEIF:
            # Images are decoded side by side already.
            module.register_heif_opener(thumbnails=False, decode_threads=1)
        else:
            module.JpegXLImagePlugin.DECODE_THREADS = 0
    except Exception as error:  # noqa: BLE001 - a broken installation may raise anything
        return f", which cannot be loaded ({' '.join(str(error).split())[:100]})"
    return None
