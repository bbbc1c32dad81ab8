"""Run the fuzz target for some seconds, starting from small images of every format."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY
from tests.helpers.pictures import picture

FORMATS = {
    "JPEG": {},
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "WEBP": {},
    "PPM": {},
    "AVIF": {},
}


@pytest.mark.long
@pytest.mark.parametrize("seconds", [6, pytest.param(45, marks=pytest.mark.faults)])
def test_nothing_but_pixels_or_a_named_error(seconds: int, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or machine")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, options in FORMATS.items():
        picture(24, 17).save(corpus / name, name, **options)
    picture(24, 17).save(corpus / "progressive", "JPEG", progressive=True)
    picture(24, 17).convert("CMYK").save(corpus / "cmyk", "JPEG")
    picture(24, 17).convert("P").save(corpus / "palette", "PNG")
    command = [
        sys.executable,
        "-m",
        "tests.faults.fuzz_decoding",
        str(corpus),
        f"-max_total_time={seconds}",
        "-max_len=4000",
    ]
    # libFuzzer reads the peak memory, which a process inherits from the one that started it.
    inherited_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    command += [f"-rss_limit_mb={max(4000, inherited_mb + 2000)}", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        command, check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds + 120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr, done.stderr[-1000:]
