"""Read the contents of a zip member as a file, inflating only the bytes that are read."""

import zlib
from typing import BinaryIO

from pipeline.core.types import InputError, Status
from pipeline.inputs.archives.archive_format import FileSlice

CHUNK_BYTES = 1 << 16
_MAX_CACHED_BYTES = 64 << 20  # per open member; decoding its image takes as much memory anyway


class ZipContents(FileSlice):
    """The bytes of a member as a file.

    Bytes are inflated only when they are read, so a zip bomb does not fill the memory. Length and
    CRC are checked when the last byte is read. Inflated bytes are cached, because reading the
    header of a TIFF seeks back and forth. A member larger than the cache is not cached: seeking
    back in it inflates it again from the beginning.
    """

    def __init__(
        self,
        file: BinaryIO,
        start: int,
        packed_size: int,
        size: int,
        is_deflated: bool,
        crc: int | None,
    ) -> None:
        """Prepare to read from the first byte.

        Args:
            file: The archive.
            start: Position of the member's first packed byte in the archive.
            packed_size: Bytes in the archive.
            size: Bytes when inflated, as the header states.
            is_deflated: False if the bytes are stored without compression.
            crc: The expected CRC; None if it is stored after the contents.
        """
        super().__init__(file, start, size)
        self._packed_size, self._is_deflated, self._expected_crc = packed_size, is_deflated, crc
        self._cache = bytearray() if size <= _MAX_CACHED_BYTES else None
        self._restart()

    def _restart(self) -> None:
        """Go back to the first packed byte."""
        self._n_unpacked, self._crc, self._packed_left = 0, 0, self._packed_size
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._file.seek(self._start)

    def read_next(self, max_bytes: int) -> bytes:
        if max_bytes <= 0:  # at the end of the member nothing needs to be inflated
            return b""

        if self._cache is not None and self._position < self._n_unpacked:
            data = bytes(self._cache[self._position : self._position + max_bytes])
        else:
            if self._position < self._n_unpacked:
                self._restart()
            while self._n_unpacked < self._position:
                self._unpack(min(CHUNK_BYTES, self._position - self._n_unpacked))
            data = self._unpack(max_bytes)
        self._position += len(data)
        return data

    def _unpack(self, max_bytes: int) -> bytes:
        """Return the next unpacked bytes, at least one. Raises InputError."""
        data = self._inflate(max_bytes) if self._is_deflated else self._file.read(max_bytes)
        if not data:
            raise InputError(
                Status.TRUNCATED, f"it ends after {self._n_unpacked} of {self._size} bytes"
            )
        self._n_unpacked += len(data)
        if self._cache is not None:
            self._cache += data
        self._crc = zlib.crc32(data, self._crc)
        if self._n_unpacked == self._size:
            self._check_end()
        return data

    def _inflate(self, max_bytes: int) -> bytes:
        """Return the next inflated bytes. The result is empty at the end of the stream."""
        data = b""
        while not data and not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._file.read(
                min(CHUNK_BYTES, self._packed_left)
            )
            if not self._inflater.unconsumed_tail:
                self._packed_left -= len(packed)
            try:
                data = self._inflater.decompress(packed, max_bytes)
            except zlib.error as error:
                raise InputError(
                    Status.CORRUPT, f"its compressed bytes are damaged ({error})"
                ) from None
            if not packed and not data:
                break
        return data

    def _check_end(self) -> None:
        """Raise InputError if the member has more bytes than its header states, or a wrong CRC."""
        if self._is_deflated and self._inflate(1):
            raise InputError(
                Status.CORRUPT, f"it holds more than the {self._size} bytes that its header says"
            )
        expected = self._read_crc() if self._expected_crc is None else self._expected_crc
        if self._crc != expected:
            raise InputError(Status.CORRUPT, "its CRC is wrong: the archive is damaged here")

    def _read_crc(self) -> int:
        """Return the CRC in the data descriptor (4.3.9). The descriptor's signature is optional."""
        descriptor = self._inflater.unused_data + self._file.read(8)
        return int.from_bytes(descriptor[:8].removeprefix(b"PK\7\10")[:4], "little")
