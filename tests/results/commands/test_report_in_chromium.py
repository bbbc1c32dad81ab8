"""The report as its reader has it: a file, opened in a browser without a server."""

import re
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from pipeline.core.keys import path_to_key
from pipeline.results.commands.report import Options, run_command
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture
from tests.results.commands.browser import opened

EVIL = "<img onerror=alert(1) src=x>"
FAILED = f"JPEG: {EVIL}</script><script>alert(2)</script>"
ROWS = [
    Row("a/dog.jpg", (60, 80), [box(1, 0.9, 5, 5, 50, 40), box(2, 0.6, 0, 0, 9, 9)]),
    Row("b/cat.jpg", (60, 80), [box(2, 0.55, 10, 10, 30, 30)]),
    Row("b/empty #1?.png", (60, 80)),
    Row("b/stop.tif", (60, 80), [box(3, 0.7, 10, 10, 30, 30)]),
    Row(f"c/{EVIL}.jpg", None, status="corrupt", error=FAILED),
    Row(path_to_key("c/\udcff.jpg"), None, status="missing", error="gone"),
]
ALL = [
    f"c/{EVIL}",
    r"c/\xff",
    "b/cat",
    "b/stop.tif",
    "a/dog",
    "b/empty #1?.png",
]  # as the report orders them


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Of images that are there; the first two have overlays."""
    photos, run = tmp_path / "photos", tmp_path / "run"
    for i, row in enumerate(row for row in ROWS if row.status == "ok"):
        for folder in (photos, run / "overlays") if i < 2 else (photos,):
            (folder / row.key).parent.mkdir(parents=True, exist_ok=True)
            picture(80, 60, seed=i).save(folder / row.key)
    made_run(run, ROWS, input=photos)
    run_command(Options(run=run))
    return run / "report.html"


@pytest.fixture
def page(browser: Browser, report: Path) -> Any:
    page = opened(browser, report)
    yield page
    assert page.said == []  # type: ignore[attr-defined]
    page.context.close()


def names(page: Page) -> list[str]:
    return [name.removesuffix(".jpg") for name in page.locator("#cards .name").all_text_contents()]


def pictures(page: Page) -> list[str]:
    """What every card shows: a picture, one with boxes over it, or a word."""
    page.wait_for_function(
        "() => [...document.querySelectorAll('#cards .picture')].every((one) => "
        "one.hasChildNodes())"
    )
    shown = """(all) => all.map(
      (one) => one.textContent || [...one.children].map((each) => each.localName).join(" ")
    )"""
    return page.locator("#cards .picture").evaluate_all(shown)


def test_failed_ones_come_first_then_the_least_certain(page: Page) -> None:
    assert names(page) == ALL
    assert pictures(page) == ["corrupt", "missing", "img", "img svg", "img", "img svg"]
    assert page.locator("#cards .said").all_text_contents()[2:] == [
        "cat 0.55",
        "stop sign 0.70",
        "dog 0.90, 1 more",
        "nothing found",
    ]
    expect(page.locator("#count")).to_have_text("6 images")


def test_names_and_errors_are_text(page: Page) -> None:
    page.locator("#cards button").first.click()
    expect(page.locator("#view-name")).to_have_text(f"c/{EVIL}.jpg")
    expect(page.locator("#view-error")).to_have_text(FAILED)
    assert page.locator("#cards .name img, #view-name img, #view-error *").count() == 0
    assert page.locator("script").count() == 3  # the data, the program, one block of thumbnails


def test_a_name_does_not_look_like_another(browser: Browser, tmp_path: Path) -> None:
    keys = ["evil\u202egpj.exe", "two\nlines.jpg", "\u05e9\u05dc\u05d5\u05dd.jpg"]
    run = made_run(
        tmp_path / "run", [Row(key, status="corrupt", error=f"in {key}") for key in keys]
    )
    run_command(Options(run=run))
    page = opened(browser, run / "report.html")
    shown = [r"evil\u202egpj.exe", r"two\u000alines.jpg", keys[2]]
    assert page.locator("#cards .name").all_text_contents() == shown
    assert page.locator("#cards .said").all_text_contents() == [f"in {one}" for one in shown]
    page.context.close()


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("#text=B%2F", ["b/cat", "b/stop.tif", "b/empty #1?.png"]),
        ("#text=alert(2)", [f"c/{EVIL}"]),
        ("#text=nowhere", []),
        ("#status=failed", [f"c/{EVIL}", r"c/\xff"]),
        ("#status=missing", [r"c/\xff"]),
        ("#status=found", ["b/cat", "b/stop.tif", "a/dog"]),
        ("#status=nothing", ["b/empty #1?.png"]),
        ("#status=ok&order=name", ["a/dog", "b/cat", "b/empty #1?.png", "b/stop.tif"]),
        ("#class=cat", ["b/cat", "a/dog"]),
        ("#class=cat&class=stop+sign", ["b/cat", "b/stop.tif", "a/dog"]),
        ("#class=cat&least=0.58", ["a/dog"]),
        ("#class=dog&most=0.8", []),
        ("#least=0.65&most=0.8", ["b/stop.tif"]),
        ("#status=found&order=best", ["a/dog", "b/stop.tif", "b/cat"]),
        ("#status=found&order=least", ["b/cat", "a/dog", "b/stop.tif"]),
        ("#status=found&order=most", ["a/dog", "b/cat", "b/stop.tif"]),
        (
            "#class=unicorn&order=upwards&status=lost&least=no",
            [f"c/{EVIL}", r"c/\xff", "b/cat", "b/stop.tif", "a/dog", "b/empty #1?.png"],
        ),
    ],
)
def test_a_link_keeps_its_filters(
    address: str, found: list[str], browser: Browser, report: Path
) -> None:
    page = opened(browser, report, address)
    assert names(page) == found
    expect(page.locator("#count")).to_have_text(
        "6 images" if len(found) == 6 else f"{len(found)} of 6 images"
    )
    page.context.close()


def test_filters_by_hand_are_kept_in_the_address(page: Page) -> None:
    page.get_by_label("Name or error").fill("b/")
    page.get_by_text("Classes: all").click()
    page.get_by_label("Find a class").fill("stop")
    assert page.locator("#class-list li:visible").count() == 1
    page.get_by_label("stop sign").check()
    page.keyboard.press("Escape")
    expect(page.locator("#classes-said")).to_have_text("stop sign")
    page.get_by_label("from").fill("0.7")
    assert names(page) == ["b/stop.tif"]
    assert page.evaluate("location.hash") == "#text=b%2F&class=stop+sign&least=0.7"
    page.reload()
    assert names(page) == ["b/stop.tif"]
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#cards li")).to_have_count(6)
    assert page.evaluate("location.hash") == ""


def test_the_keyboard_is_enough(page: Page) -> None:
    focused = (
        "document.activeElement.querySelector('.name')?.textContent ?? document.activeElement.id"
    )
    page.keyboard.press("/")
    assert page.evaluate(focused) == "text"
    page.keyboard.type("b/")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == "b/cat.jpg"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="b/stop.tif")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#view-name")).to_have_text("b/empty #1?.png")
    assert page.locator("#next").is_disabled()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    expect(page.locator("#view")).to_be_hidden()
    assert page.evaluate(focused) == "b/empty #1?.png"
    page.keyboard.press("Home")
    assert page.evaluate(focused) == "b/cat.jpg"
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == "b/cat.jpg"
    assert page.locator("#cards button[tabindex='0']").count() == 1


def test_one_image_with_its_rows_and_links(page: Page, report: Path) -> None:
    def opened_image(name: str) -> str:
        page.locator("#cards button", has_text=name).click()
        image = page.locator("#view-picture img")
        image.evaluate(
            "(one) => one.complete || new Promise((done) => one.addEventListener('load', done))"
        )
        return str(
            image.evaluate("(one) => one.naturalWidth && one.src.slice(0, 30) + one.src.slice(-40)")
        )

    assert opened_image("dog").endswith("/overlays/a/dog.jpg")
    assert page.locator("#view-rows tr").all_inner_texts() == [
        "class\tscore\tleft top right bottom",
        "dog\t0.900\t5 5 50 40",
        "cat\t0.600\t0 0 9 9",
    ]
    expect(page.locator("#view-facts")).to_have_text("2 predictions, 80 x 60 pixels; image 5 of 6")
    assert [one.get_attribute("href") for one in page.locator("#view-links a").all()] == [
        "overlays/a/dog.jpg",
        (report.parent.parent / "photos/a/dog.jpg").as_uri(),
    ]
    page.keyboard.press("Escape")
    (report.parent / "overlays" / "b" / "cat.jpg").unlink()
    page.said.clear()  # type: ignore[attr-defined]
    assert opened_image("cat").startswith("data:image/webp")  # what is left of it
    assert any("ERR_FILE_NOT_FOUND" in one for one in page.said)  # type: ignore[attr-defined]
    page.said.clear()  # type: ignore[attr-defined]
    page.keyboard.press("Escape")
    assert opened_image("empty").endswith(
        "photos/b/empty%20%231%3F.png"
    )  # the image itself, where there is no overlay
    page.keyboard.press("Escape")
    assert opened_image("stop").startswith("data:image/webp")  # browsers show no TIFF
    assert page.locator("#view-picture svg rect").count() == 1
    page.keyboard.press("Escape")
    page.locator("#cards button", has_text=r"c/\xff").click()
    assert (page.locator("#view-links a").get_attribute("href") or "").endswith("photos/c/%ff.jpg")


def test_without_javascript_the_figures_are_there(browser: Browser, report: Path) -> None:
    page = opened(browser, report, java_script_enabled=False)
    expect(page.get_by_text("The gallery needs JavaScript")).to_be_visible()
    expect(page.get_by_role("img", name="Predictions by class")).to_be_visible()
    page.context.close()


# [contrast, element] of everything that holds text, the weakest first: https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio
_CONTRAST = """() => {
  const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (one) => {
    const colour = one ? getComputedStyle(one).backgroundColor : "rgb(255, 255, 255)";
    return colour === "rgba(0, 0, 0, 0)" ? behind(one.parentElement) : colour;
  };
  const holdsText = (one) =>
    [...one.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  return [...document.querySelectorAll("body *")]
    .filter((one) => holdsText(one) && one.checkVisibility())
    .filter((one) => !one.closest("svg, script, option, .unseen"))
    .map((one) => {
      const [a, b] = [getComputedStyle(one).color, behind(one)].map(light);
      return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), one.outerHTML.slice(0, 80)];
    }).sort((a, b) => a[0] - b[0]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_stand_out(scheme: Any, browser: Browser, report: Path) -> None:
    page = opened(browser, report, color_scheme=scheme)
    page.locator("#cards button").first.click()
    found = page.evaluate(_CONTRAST)
    assert len(found) > 40 and found[0][0] >= 4.5, found[0]
    dark = "rgb(21, 23, 26)"
    assert (page.evaluate("getComputedStyle(document.body).backgroundColor") == dark) is (
        scheme == "dark"
    )
    page.context.close()


@pytest.mark.parametrize("width", [320, 390, 800, 2560])
def test_it_fits_any_width(width: int, browser: Browser, report: Path) -> None:
    page = opened(browser, report, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_text("Classes: all").click()
    drawer = page.locator(".drawer").bounding_box()
    assert drawer and drawer["x"] >= 0 and drawer["x"] + drawer["width"] <= width
    page.keyboard.press("Escape")
    page.locator("#cards button").last.click()
    assert page.evaluate("document.getElementById('view').getBoundingClientRect().width") <= width
    page.context.close()


def test_on_paper_there_are_no_controls(page: Page) -> None:
    page.emulate_media(media="print")
    assert page.locator("#filters, .keys, #view").filter(visible=True).count() == 0
    assert page.locator("#cards li:visible").count() == 6 and page.pdf()[:5] == b"%PDF-"


@pytest.mark.long
def test_thousands_of_images_do_not_freeze_it(browser: Browser, tmp_path: Path) -> None:
    rows = [
        Row(f"{i:05d}.jpg", found=[box(1 + i % 3, i / 5000, 0, 0, 9, 9)] * 5) for i in range(5000)
    ]
    run = made_run(tmp_path / "run", rows, shard_size=1000)
    run_command(Options(run=run))
    start = perf_counter()
    page = opened(browser, run / "report.html")
    expect(page.locator("#count")).to_have_text("5,000 images")
    assert page.locator("#cards li").count() < 200
    page.get_by_label("Name or error").fill("7")
    matching = sum("7" in row.key for row in rows)
    expect(page.locator("#count")).to_have_text(f"{matching:,} of 5,000 images")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    expect(page.locator("#cards li")).to_have_count(matching)
    expect(page.locator("#cards button:focus .name")).to_have_text("04997.jpg")
    page.locator("button[type=reset]").click()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_function("() => document.querySelectorAll('#cards li').length > 60")
    assert perf_counter() - start < 20  # seconds, on any machine: a frozen page takes minutes
    assert page.said == []  # type: ignore[attr-defined]
    page.context.close()


def test_nothing_is_asked_of_a_network(browser: Browser, report: Path) -> None:
    asked: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    for i in range(6):
        page.locator("#cards button").nth(i).click()
        page.wait_for_timeout(50)
        page.keyboard.press("Escape")
    assert asked and [url for url in asked if not re.match("file:|data:", url)] == []
    page.close()


def test_a_duplicate_does_not_look_like_a_failure(browser: Browser, tmp_path: Path) -> None:
    twin = Row("a.jpg", None, status="duplicate", error="the same bytes as b.jpg")
    run = made_run(tmp_path / "run", [twin, Row("c.jpg", None, status="empty", error="0 bytes")])
    run_command(Options(run=run))
    page = opened(browser, run / "report.html")
    assert names(page) == ["c", "a"] and pictures(page) == ["empty", "duplicate"]
    assert page.locator("#cards .failed .name").all_text_contents() == ["c.jpg"]
    assert page.locator("#cards .said").all_text_contents() == [
        "0 bytes",
        "the same bytes as b.jpg",
    ]
    assert page.locator("#status option").all_text_contents()[4:] == [
        "not usable",
        "not usable: empty",
        "duplicate",
    ]
    page.context.close()
