"""List all objects below a folder of a store, page by page.

One request gives a thousand names, whatever their folders. Requests that go folder by folder would
be more, and drivers lose names in them: objects behind an empty folder name (`a//b.jpg`), and
folders for which a tool has created an object (`a/`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.core.locations import Uri

_PAGE_SIZE = 1000
# What stores of S3's interface that list in the order of names call themselves in HTTP's `Server`.
# Others may list folder by folder, so that `a/x` comes before `a.jpg`.
_SORTED_SERVERS = ("amazons3", "minio", "ceph")
# The end of the name of AWS's directory buckets, which list in no order.
_DIRECTORY_BUCKET = "--x-s3"
_AZURE_FOLDER = "hdi_isfolder"  # metadata of an object that stands for a folder


@dataclass(frozen=True)
class ObjectPage:
    """A part of a listing.

    Attributes:
        objects: Paths below the bucket, and infos as `ObjectClient.read_info` returns them.
        is_sorted: Whether the store lists in the order of the names' code points.
    """

    objects: list[tuple[str, dict[str, Any]]]
    is_sorted: bool


class Requester(Protocol):
    """The part of `ObjectClient` that is needed here."""

    address: Uri
    fs: Any

    def call(self, name: str, *arguments: Any, **options: Any) -> Any: ...
    def call_function(self, function: Any, *arguments: Any) -> Any: ...


def list_pages(client: Requester, bucket: str, prefix: str) -> Iterator[ObjectPage] | None:
    """Return the pages of a listing, or None if the driver can only list folder by folder.

    Args:
        client: Sends the requests.
        bucket: The bucket, or Azure's container.
        prefix: The beginning of the paths to list.
    """
    listers = {"s3": _list_s3, "gs": _list_google, "az": _list_azure}
    protocols = client.fs.protocol
    names = (protocols,) if isinstance(protocols, str) else protocols
    found = next((lister for name, lister in listers.items() if name in names), None)
    return found(client, bucket, prefix) if found else None


def _list_s3(client: Requester, bucket: str, prefix: str) -> Iterator[ObjectPage]:
    position: dict[str, Any] = {}
    while True:
        page = client.call("call_s3", "list_objects_v2", Bucket=bucket, Prefix=prefix, **position)
        objects = [
            (entry["Key"], {"size": entry["Size"], "LastModified": entry["LastModified"]})
            for entry in page.get("Contents", ())
        ]
        server = str(page["ResponseMetadata"]["HTTPHeaders"].get("server", "")).lower()
        is_sorted = server.startswith(_SORTED_SERVERS) and not bucket.endswith(_DIRECTORY_BUCKET)
        yield ObjectPage(objects, is_sorted)
        if not page.get("IsTruncated"):
            return
        position = {"ContinuationToken": page["NextContinuationToken"]}


def _list_google(client: Requester, bucket: str, prefix: str) -> Iterator[ObjectPage]:
    options = {"prefix": prefix, "maxResults": _PAGE_SIZE, "json_out": True}
    while True:
        page = client.call("call", "GET", "b/{}/o", bucket, **options)
        objects = [
            (entry["name"], {"size": int(entry["size"]), "updated": entry["updated"]})
            for entry in page.get("items", ())
        ]
        yield ObjectPage(objects, is_sorted=True)
        if not page.get("nextPageToken"):
            return
        options["pageToken"] = page["nextPageToken"]


def _list_azure(client: Requester, bucket: str, prefix: str) -> Iterator[ObjectPage]:
    """Yield the pages. Accounts with a hierarchical namespace list folder by folder."""

    async def read_page(position: str | None) -> tuple[list[Any], str | None]:
        async with client.fs.service_client.get_container_client(container=bucket) as container:
            blobs = container.list_blobs(
                name_starts_with=prefix, include=["metadata"], results_per_page=_PAGE_SIZE
            )
            pages = blobs.by_page(continuation_token=position)
            async for page in pages:
                return [blob async for blob in page], pages.continuation_token
        return [], None

    position = None
    while True:
        blobs, position = client.call_function(read_page, position)
        objects = [
            (blob.name, {"size": blob.size, "last_modified": blob.last_modified})
            for blob in blobs
            if (blob.metadata or {}).get(_AZURE_FOLDER) != "true"
        ]
        yield ObjectPage(objects, is_sorted=False)
        if not position:
            return
