"""Classify errors of object stores: decide about another try, and word messages."""

import errno

from pipeline.core.errors import PipelineError
from pipeline.core.locations import Uri, redact_secrets

_TRANSIENT_ERRNOS = {
    errno.EBUSY,
    errno.EREMOTEIO,
    errno.EAGAIN,
    errno.ECONNRESET,
    errno.ETIMEDOUT,
    errno.EPIPE,
}
_STATUS_ATTRIBUTES = ("status", "status_code", "code")  # of aiohttp, Azure and Google
_TRANSIENT_STATUSES = (408, 425, 429)  # HTTP, beside 500 and above
_PERMANENT_STATUSES = (501, 505)
_TRANSIENT_CLASSES = {  # library.class of drivers' exceptions
    "botocore.HTTPClientError",
    "botocore.IncompleteReadError",
    "botocore.ResponseParserError",
    "aiohttp.ClientConnectionError",
    "aiohttp.ClientPayloadError",
    "azure.ServiceRequestError",
    "fsspec.FSTimeoutError",
}
_AZURE_DETAILS = "\nRequestId:"  # what follows in Azure's messages are numbers and the XML answer
_DRIVERS = ("botocore", "aiobotocore", "aiohttp", "azure", "gcsfs")


class StoreUnavailable(OSError):
    """The store did not answer, or answered that it cannot at present, in all tries."""


class StoreTooSlow(StoreUnavailable):
    """The timeout left no time for another try."""


def find_http_status(error: BaseException) -> int | None:
    """Return the HTTP status of a driver's error or of its cause, or None if it has none."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):  # of botocore
            return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        for name in _STATUS_ATTRIBUTES:
            value = getattr(candidate, name, None)
            if isinstance(value, int | str) and str(value).isdecimal():
                return int(value)
    return None


def is_transient(error: BaseException) -> bool:
    """Return whether another try may succeed: timeouts, resets, throttling, server errors."""
    if isinstance(error, FileNotFoundError | FileExistsError | PermissionError):
        return False
    if (status := find_http_status(error)) is not None:
        is_server_error = status >= 500 and status not in _PERMANENT_STATUSES
        return is_server_error or status in _TRANSIENT_STATUSES
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS:
        return True
    classes = {
        f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(error).__mro__
    }
    return bool(classes & _TRANSIENT_CLASSES)


def describe_error(error: BaseException) -> str:
    """Return an error's message on one line, without credentials."""
    status = find_http_status(error)
    text = str(error).partition(_AZURE_DETAILS)[0].strip() or type(error).__name__
    if isinstance(error, OSError) and error.errno and error.strerror is None:
        text = str(error.args[-1])
    return redact_secrets(" ".join((f"HTTP status {status}: {text}" if status else text).split()))


def translate_error(error: Exception, address: Uri) -> Exception:
    """Return the built-in error that a driver's error stands for.

    Returns:
        FileExistsError, FileNotFoundError, PermissionError or OSError for an answer of the store;
        PipelineError for anything else.
    """
    status = find_http_status(error)
    if isinstance(error, FileExistsError) or status == 412:
        return FileExistsError(describe_error(error))
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FileNotFoundError(describe_error(error))

    is_credential_error = "Credential" in type(error).__name__
    if isinstance(error, PermissionError) or status in (401, 403) or is_credential_error:
        return PermissionError(errno.EACCES, describe_error(error))

    library = type(error).__module__.partition(".")[0]
    if isinstance(error, OSError) or status or library in _DRIVERS:
        return OSError(describe_error(error))
    return PipelineError(
        f"{redact_secrets(address.text)}: {type(error).__name__}: {describe_error(error)}"
    )
