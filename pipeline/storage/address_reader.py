"""Read files that are named by their addresses, one by one, in any number of stores."""

from threading import Lock

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.locations import Uri, parse_location, redact_secrets
from pipeline.core.types import InputError, Status
from pipeline.storage.object_client import ObjectClient
from pipeline.storage.store_errors import StoreTooSlow

_MAX_FAILURES = 32  # in a row; then the store is taken to be down, instead of its files to be bad


class AddressReader:
    """Reads whole files by address. Threads may share it."""

    def __init__(self) -> None:
        self._clients: dict[str, ObjectClient] = {}  # by scheme and host or bucket
        self._lock = Lock()
        self._failures = 0  # in a row

    def read(self, address: str, seconds: float | None = None) -> bytes:
        """Read a whole file.

        Args:
            address: The file's address.
            seconds: Timeout; None for the client's own.

        Raises:
            InputError: The file cannot be read.
            PipelineError: Many files in a row cannot be read.
        """
        try:
            client = self._get_client(address)
            data = client.read(client.fs._strip_protocol(address), seconds=seconds)
        except FileNotFoundError:
            raise InputError(Status.MISSING, "nothing is at this address") from None
        except ConfigError as error:
            raise InputError(Status.UNREADABLE, str(error)) from None
        except OSError as error:
            self._count_failure(address, error)
            if isinstance(error, StoreTooSlow):
                raise InputError(Status.TIMEOUT, str(error)) from None
            is_refused = isinstance(error, PermissionError)
            raise InputError(
                Status.UNREADABLE,
                f"the store refuses it: {error.strerror}" if is_refused else str(error),
            ) from None
        self._failures = 0
        return data

    def _get_client(self, address: str) -> ObjectClient:
        location = parse_location(address)
        assert isinstance(location, Uri), "expected an address, got a path"  # noqa: S101
        scheme, _, rest = location.text.partition("://")
        store = f"{scheme}://{rest.partition('/')[0]}"
        with self._lock:
            if store not in self._clients:
                self._clients[store] = ObjectClient(Uri(store))
            return self._clients[store]

    def _count_failure(self, address: str, error: OSError) -> None:
        """Count a failure. Raises PipelineError if there were too many in a row."""
        with self._lock:
            self._failures += 1
        if self._failures >= _MAX_FAILURES:
            raise PipelineError(
                f"{_MAX_FAILURES} addresses one after the other cannot be read, at last "
                f"{redact_secrets(address)}: {error}. Committed shards are kept; run again later."
            ) from None
