import hashlib
import os
import urllib.error
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import ResNet50_Weights

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.models.weights import (
    fetch_official_file,
    get_cache_path,
    hash_file,
    parse_categories,
    read_safetensors_metadata,
    read_state_dict,
    resolve_file,
)

STATE = {
    "conv.weight": torch.arange(6.0).reshape(2, 3),
    "conv.bias": torch.tensor([1.5, -2.5]),
    "n": torch.tensor(7),
}


def assert_same_state(found, expected=None):
    expected = STATE if expected is None else expected
    return found.keys() == expected.keys() and all(
        torch.equal(found[key], expected[key]) for key in expected
    )


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch, on a machine without a network."""

    def refused(url, *_):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    return tmp_path / "hub" / "checkpoints"


def make_member(content=b"weights", url="https://example.invalid/models/net-{}.pth"):
    """A member of a weights enum whose file has this content."""
    return SimpleNamespace(url=url.format(hashlib.sha256(content).hexdigest()[:8]))


# --- hashes and paths


@pytest.mark.parametrize("content", [b"", b"abc", bytes(3_000_000)])
def test_sha256(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert hash_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["a.pth", "a.PTH", "a b.safetensors"])
def test_a_file_of_the_right_kind_is_found(tmp_path, name):
    (tmp_path / name).touch()
    assert resolve_file(str(tmp_path / name), (".safetensors", ".pth")) == tmp_path / name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent.pth", "there is no such file"),
        ("", "there is no such file"),
        ("a.txt", "got 'a.txt'"),
    ],
)
def test_an_absent_file_or_one_of_another_kind_is_refused(tmp_path, name, said):
    (tmp_path / "a.txt").touch()
    with pytest.raises(ConfigError, match=f"^weights={tmp_path}.*{said}") as caught:
        resolve_file(str(tmp_path / name), (".safetensors", ".pth"))
    assert ".safetensors or .pth" in str(caught.value)


# --- published files


def test_a_cached_file_is_used_without_a_download(cache):
    member = make_member()
    cache.mkdir(parents=True)
    get_cache_path(member).write_bytes(b"weights")
    assert (
        fetch_official_file(member)
        == get_cache_path(member)
        == cache / member.url.rpartition("/")[2]
    )


@pytest.mark.parametrize("content", [b"", b"weight", b"weights\n"])
def test_a_damaged_cached_file_is_named(cache, content):
    member = make_member()
    cache.mkdir(parents=True)
    get_cache_path(member).write_bytes(content)
    with pytest.raises(PipelineError, match=r"is damaged.*Delete it") as caught:
        fetch_official_file(member)
    assert str(get_cache_path(member)) in str(caught.value)


def test_a_file_whose_name_carries_no_hash_is_taken_as_it_is(cache):
    member = make_member(url="https://example.invalid/net.pth")
    cache.mkdir(parents=True)
    get_cache_path(member).write_bytes(b"anything")
    assert fetch_official_file(member) == cache / "net.pth"


@pytest.mark.parametrize("member", [make_member(), ResNet50_Weights.IMAGENET1K_V2])
def test_an_offline_machine_is_told_which_file_from_where_and_where_to_put_it(cache, member):
    with pytest.raises(PipelineError) as caught:
        fetch_official_file(member)
    message = str(caught.value)
    for told in (
        member.url.rpartition("/")[2],
        member.url,
        str(get_cache_path(member)),
        "Name or service not known",
        "weights=FILE",
    ):
        assert told in message
    assert str(member) in message


@pytest.mark.parametrize("error", [OSError("timed out"), RuntimeError("invalid hash value")])
def test_a_download_that_breaks_off_is_told_like_an_offline_machine(cache, monkeypatch, error):
    def broken(*_):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", broken)
    with pytest.raises(PipelineError, match=f"could not be downloaded .{error}"):
        fetch_official_file(make_member())


def test_a_missing_file_is_downloaded_with_its_hash(cache, monkeypatch):
    asked = []

    def download(url, destination, prefix):
        asked.append((url, prefix))
        with open(destination, "wb") as file:  # noqa: PTH123 - a text, as torch takes it
            file.write(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    member = make_member()
    assert fetch_official_file(member).read_bytes() == b"weights"
    assert asked == [(member.url, hashlib.sha256(b"weights").hexdigest()[:8])]


# --- safetensors metadata


def test_metadata_is_read_from_safetensors_alone(tmp_path):
    save_file(
        STATE,
        tmp_path / "with.safetensors",
        metadata={"architecture": "net", "categories": '["cat", "dog"]'},
    )
    save_file(STATE, tmp_path / "without.safetensors")
    torch.save(STATE, tmp_path / "net.pth")
    found = read_safetensors_metadata(tmp_path / "with.safetensors")
    assert found["architecture"] == "net" and parse_categories(found) == ("cat", "dog")
    assert (
        read_safetensors_metadata(tmp_path / "without.safetensors")
        == {}
        == read_safetensors_metadata(tmp_path / "net.pth")
    )
    assert parse_categories({}) is None


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 100])
def test_metadata_of_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.safetensors is not a safetensors file"):
        read_safetensors_metadata(tmp_path / "a.safetensors")


@pytest.mark.parametrize("text", ["cat, dog", '"cat"', "5"])
def test_metadata_categories_that_are_no_list_are_refused(text):
    with pytest.raises(ConfigError, match="categories"):
        parse_categories({"categories": text})


# --- state dicts


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state},
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model_state_dict": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_is_unwrapped(tmp_path, wrap, legacy):
    torch.save(wrap(STATE), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    assert assert_same_state(read_state_dict(tmp_path / "a.pth"))


def test_safetensors_are_read(tmp_path):
    save_file({f"module.{key}": value for key, value in STATE.items()}, tmp_path / "a.SAFETENSORS")
    assert assert_same_state(read_state_dict(tmp_path / "a.SAFETENSORS"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_fractions_become_float32_and_whole_numbers_stay(tmp_path, dtype):
    torch.save(
        {"w": torch.tensor([0.5, 2.0], dtype=dtype), "n": torch.tensor(3)}, tmp_path / "a.pth"
    )
    found = read_state_dict(tmp_path / "a.pth")
    assert found["w"].dtype == torch.float32 and found["w"].tolist() == [0.5, 2.0]
    assert found["n"].dtype == torch.int64


class Evil:
    """An object that creates a folder when it is unpickled: code in a weights file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda evil: evil,
        lambda evil: {"w": torch.ones(1), "x": evil},
        lambda evil: {"model": {"x": evil}},
    ],
)
def test_a_pickle_with_code_in_it_is_refused_and_not_executed(tmp_path, wrap, legacy):
    ran, file = tmp_path / "ran", tmp_path / "a.pth"
    torch.save(wrap(Evil(ran)), file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ConfigError, match=r"a\.pth is not a file of plain tensors"):
        read_state_dict(file)
    assert not ran.exists()
    torch.load(
        file, weights_only=False
    )  # the file does run code when it is loaded without restriction
    assert ran.is_dir()


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"state_dict\(\) alone"):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b""),
        pytest.param(b"hello"),
        pytest.param(b"\x80\x02."),
        b"PK\x03\x04 cut",
        bytes(100),
        b"<html><body>not found</body></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        b"cos\nsystem\n(S'true'\ntR.",
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.pth is not a file of plain tensors"):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize("cut", [10, 200, -10])
def test_a_cut_checkpoint_is_refused(tmp_path, cut):
    torch.save(STATE, tmp_path / "a.pth")
    data = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(data[:cut])
    with pytest.raises(ConfigError, match="is not a file of plain tensors"):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [b"", b"not safetensors"])
def test_damaged_safetensors_are_refused(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.safetensors"):
        read_state_dict(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "content",
    [{}, [], torch.ones(2), {"a": 1}, {"a": torch.ones(1), "epoch": 3}, {"model": {}}, 5, None],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"a\.pth holds no state_dict"):
        read_state_dict(tmp_path / "a.pth")
