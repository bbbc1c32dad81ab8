"""Addresses are listed and opened like folders.

The servers are a real S3 server, an HTTP server, and fsspec's store in memory.
"""

import functools
import http.server
import threading
from contextlib import closing
from pathlib import Path

import fsspec
import pytest

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES
from pipeline.inputs.sources.folder import Folder
from pipeline.storage import object_client as remote
from pipeline.storage.listing import open_listing

NAMES = [
    "b.jpg",
    "a.jpg",
    "a.jpg/inside.jpg",  # an object and a folder of one name
    "a-b.jpg",
    "a/b.jpg",
    "a0.jpg",
    "a.jpg-x.jpg",
    "a//b.jpg",
    "/rooted.jpg",
    "../up.jpg",
    "x/../y.jpg",
    "with space.jpg",
    "100%25.jpg",
    "é/日.jpg",
    "\U0001f600.jpg",
    "\uff5e.jpg",
    r"back\x41.jpg",
    "what?.jpg",
    "hash#1.jpg",
    "plus+&<tag>.jpg",
    "Z.JPG",
]
OTHERS = ["notes.txt", "folder/", "jpg"]


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(remote, "_FIRST_PAUSE_S", 0.0)


@pytest.fixture
def odd(s3):
    """A prefix with every odd name in it."""
    if "odd" not in [one["Name"] for one in s3.s3.list_buckets()["Buckets"]]:
        s3.bucket("odd")
        for name in (*NAMES, *OTHERS):
            s3.put("odd", f"in/{name}", name.encode())
        s3.put("odd", "in2/beside.jpg", b"not below in/")
    return "s3://odd/in"


def test_every_object_is_listed_once_in_the_order_of_the_keys_and_opened(odd):
    with closing(Folder(odd)) as source:
        entries = list(source.entries())
        keys = [entry.key for entry in entries]
        assert keys == sorted(keys) and source.identity == "folder:s3://odd/in"
        assert set(keys) == {name.replace("\\x", "\\x5cx") for name in NAMES}
        for entry in entries:
            content = entry.key.replace("\\x5cx", "\\x").encode()
            assert (entry.size, entry.offset) == (len(content), 0) and entry.mtime_ns > 10**18
            with source.open(entry) as file:
                assert file.read() == content


def test_names_with_a_slash_behind_them_are_another_order(odd):
    keys = [
        entry.key for entry in open_listing(odd, IMAGE_SUFFIXES, "archives", below=True).entries()
    ]
    assert len(keys) == len(NAMES) and keys == sorted(keys, key=lambda key: key + "/") != sorted(
        keys
    )


def test_pages_are_read_as_they_are_needed(s3, monkeypatch):
    s3.bucket("pages")
    for i in range(7):
        s3.put("pages", f"{i}.jpg", b"x")
    listed = open_listing("s3://pages", IMAGE_SUFFIXES, "images")
    real = listed.remote.call
    monkeypatch.setattr(
        listed.remote,
        "call",
        lambda name, *a, **k: real(name, *a, **k | ({"MaxKeys": 2} if name == "call_s3" else {})),
    )
    s3.rules()
    entries = listed.entries()
    assert next(entries).key == "0.jpg"
    asked = len(s3.requests("GET", "^/pages/?$"))
    assert asked == 1
    s3.rules(
        {"method": "GET", "match": "list-type=2", "status": 500, "times": 2}
    )  # and a page that fails comes after all
    assert [entry.key for entry in entries] == [f"{i}.jpg" for i in range(1, 7)]


def test_a_run_of_ours_is_no_input(s3):
    s3.bucket("mixed")
    for name in (
        "a.jpg",
        "runs/d/_committed/00000000.json",
        "runs/d/overlays/a.jpg",
        "runs/e.jpg",
        "x_committed/00000000.json.jpg",
    ):
        s3.put("mixed", name, b"x")
    keys = [entry.key for entry in open_listing("s3://mixed", IMAGE_SUFFIXES, "images").entries()]
    assert keys == ["a.jpg", "runs/e.jpg", "x_committed/00000000.json.jpg"]


def test_one_object_is_a_collection_too(odd):
    with closing(Folder(f"{odd}/b.jpg")) as source:
        (entry,) = source.entries()
        assert (entry.key, entry.size, source.identity) == ("b.jpg", 5, f"folder:{odd}/b.jpg")
        with source.open(entry) as file:
            assert file.read() == b"b.jpg"


@pytest.mark.long
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://odd/absent", "does not exist. Expected a folder of images, or one of them"),
        ("s3://nobucket", "does not exist"),
        ("s3://odd/in/notes.txt", r"expected a folder of images, or a file ending in .*\.png"),
    ],
)
def test_what_is_not_there_is_refused(address, said, odd):
    with pytest.raises(ConfigError, match=f"^input={address}.*{said}"):
        Folder(address)


def test_what_is_forbidden_is_refused_and_says_where_credentials_come_from(odd, s3):
    s3.rules({"match": "/odd", "status": 403})
    with pytest.raises(ConfigError, match=r"the store refuses.*AWS_ACCESS_KEY_ID") as caught:
        Folder(odd)
    assert "SECRET-testing" not in str(caught.value)


def test_a_store_that_is_down_is_refused(odd, s3, no_pauses):
    s3.rules({"match": "/odd", "status": 500})
    with pytest.raises(ConfigError, match=r"does not answer.*500.*5 tries"):
        Folder(odd)


# --- reading


def test_a_large_file_is_read_by_ranges(s3):
    data = bytes(range(256)) * 20_000
    s3.put(s3.bucket("large"), "a.mp4", data)
    listed = open_listing("s3://large", (".mp4",), "videos", below=True)
    s3.rules()
    with listed.open("a.mp4") as file:
        assert file.seek(0, 2) == len(data) == 5_120_000
        file.seek(4_000_000)
        assert file.read(1000) == data[4_000_000:4_001_000] and file.tell() == 4_001_000
        file.seek(-3, 2)
        assert file.read() == data[-3:] and file.read(1) == b""
        assert file.seek(10**9) and file.read(5) == b""
    assert 2 <= len(s3.requests("GET", "/large/a.mp4")) <= 3
    s3.rules()
    with listed.open("a.mp4") as file:
        assert file.read() == data
    assert len(s3.requests("GET", "/large/a.mp4")) == 1


def status_of(listed, key):
    with pytest.raises(InputError) as caught:
        listed.read(key)
    return caught.value.status, str(caught.value)


def test_why_one_object_cannot_be_had(odd, s3, no_pauses):
    listed = open_listing(odd, IMAGE_SUFFIXES, "images")
    assert status_of(listed, "gone.jpg")[0] is Status.MISSING
    s3.rules({"method": "GET", "match": "/in/b.jpg", "status": 403})
    assert status_of(listed, "b.jpg") == (
        Status.UNREADABLE,
        "the store refuses it: HTTP status 403: injected",
    )
    s3.rules({"method": "GET", "match": "/in/b.jpg", "status": 500})
    status, said = status_of(listed, "b.jpg")
    assert status is Status.UNREADABLE and "HTTP status 500" in said and "5 tries" in said
    assert listed.read("a0.jpg") == b"a0.jpg"
    assert status_of(listed, "b.jpg")[0] is Status.UNREADABLE  # beside one that was read before
    with pytest.raises(InputError), listed.open("gone.jpg"):
        pass


@pytest.mark.parametrize("read_before", [False, True])
def test_a_store_that_is_down_is_no_inputs_fault(read_before, odd, s3, no_pauses):
    listed = open_listing(odd, IMAGE_SUFFIXES, "images")
    if read_before:
        listed.read("a0.jpg")
    for status in (503, 403):  # 403: credentials that have expired
        s3.rules({"method": "GET", "match": "/odd/in/", "status": status})
        with pytest.raises(
            PipelineError, match=rf"s3://odd/in: .*{status}.*Nothing can be read there\. Committed"
        ):
            listed.read("b.jpg")


def test_a_stop_while_listing_ends_the_run(odd, s3, no_pauses):
    listed = open_listing(odd, IMAGE_SUFFIXES, "images")
    s3.rules({"match": "list-type=2", "status": 500})
    with pytest.raises(PipelineError, match="Cannot list s3://odd/in"):
        list(listed.entries())
    s3.rules({"match": "list-type=2", "status": 403})
    with pytest.raises(ConfigError, match="Cannot list s3://odd/in: the store refuses"):
        list(listed.entries())


# --- other stores


def test_a_store_without_pages_is_listed_folder_by_folder():
    fs = fsspec.filesystem("memory")
    for name in (
        "b.jpg",
        "a.jpg",
        "a/b.jpg",
        "a-b.jpg",
        "a0.jpg",
        "a/c/d.PNG",
        "notes.txt",
        "a.mp4",
        "a.mp4-b.mp4",
    ):
        fs.pipe_file(f"/distant/{name}", name.encode())
    try:
        with closing(Folder("memory://distant")) as source:
            entries = list(source.entries())
            assert [entry.key for entry in entries] == [
                "a-b.jpg",
                "a.jpg",
                "a/b.jpg",
                "a/c/d.PNG",
                "a0.jpg",
                "b.jpg",
            ]
            with source.open(entries[3]) as file:
                assert file.read() == b"a/c/d.PNG"
        videos = [
            entry.key
            for entry in open_listing("memory://distant", (".mp4",), "videos", below=True).entries()
        ]
        assert videos == ["a.mp4-b.mp4", "a.mp4"]
    finally:
        fs.rm("/distant", recursive=True)


@pytest.fixture
def web(tmp_path):
    """A folder and the address at which a web server shows it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if "secret" in self.path and "signature=hidden" not in self.path:
                return self.send_error(403)
            return super().do_GET()

        do_HEAD = do_GET  # noqa: N815 - what is signed for GET is often refused otherwise

    folder = tmp_path / "web"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_a_web_server_is_listed_by_its_links(web):
    folder, address = web
    fill(folder, "b.jpg", "sub/a b.jpg", "sub/deep/c.png", "notes.txt")
    with closing(Folder(address)) as source:
        entries = list(source.entries())
        assert [entry.key for entry in entries] == ["b.jpg", "sub/a%20b.jpg", "sub/deep/c.png"]
        assert entries[0] == Entry("b.jpg", None, 0)
        assert source.prefetcher.fetch(entries[1]) == b"sub/a b.jpg"
        with source.open(entries[2]) as file:
            assert file.read() == b"sub/deep/c.png"


def test_a_signed_address_is_read_and_its_signature_told_to_nobody(web):
    folder, address = web
    fill(folder, "secret.jpg")
    with closing(Folder(f"{address}/secret.jpg?signature=hidden")) as source:
        (entry,) = source.entries()
        assert entry.key == "secret.jpg" and source.identity == f"folder:{address}/secret.jpg"
        assert source.prefetcher.fetch(entry) == b"secret.jpg"
    with pytest.raises(ConfigError) as caught:
        list(Folder(f"{address}/absent.jpg?signature=hidden").entries())
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("in_order", [True, False])
def test_companions_and_output_folders_in_a_store_are_passed_over(monkeypatch, in_order):
    if not in_order:
        monkeypatch.setattr(remote.ObjectClient, "list_recursively", lambda *_: None)
    names = ["a.jpg", "._a.jpg", "__MACOSX/._a.jpg", "d/b.jpg", "crops/.visionbatch"]
    names += ["crops/cat/a.jpg", "run/.lease-alone", "run/overlays/a.jpg"]
    store = fsspec.filesystem("memory")
    for name in names:
        store.pipe_file(f"/passed/{name}", b"x")
    source = Folder("memory://passed")
    assert [entry.key for entry in source.entries()] == ["a.jpg", "d/b.jpg"]
    assert source.passed_over.n_files + source.passed_over.n_folders == 4
