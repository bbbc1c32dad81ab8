from pathlib import Path

from pipeline.core.passed_over import OWN_MARKER, PassedOver
from pipeline.storage.walk import walk_files


def test_files_are_listed_without_companions_and_links_are_followed_once(tmp_path: Path) -> None:
    for name in (
        "b.txt",
        "a.txt",
        "d/c.txt",
        "d/._c.txt",
        "__MACOSX/x",
        f"out/{OWN_MARKER}",
        "out/x",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    elsewhere = tmp_path.parent / f"{tmp_path.name}-linked"
    elsewhere.mkdir()
    (elsewhere / "e.txt").touch()
    (tmp_path / "link").symlink_to(elsewhere)
    (tmp_path / "d" / "loop").symlink_to(tmp_path)

    passed_over = PassedOver()
    found = list(walk_files(tmp_path, passed_over))
    assert found == ["a.txt", "b.txt", "d/c.txt", "link/e.txt"]
    assert (passed_over.n_files, passed_over.n_folders) == (1, 2)
    assert list(walk_files(tmp_path / "out")) == ["x"]
