"""The report of a training escapes all text and fetches nothing."""

import html
import json
import re

import pytest

from pipeline.training.training_report import write_training_report

FACTS = {
    "task": "detect",
    "model": "<b>net</b>",
    "augment": ["flip"],
    "epochs": 2,
    "data": {"data": "<script>x</script>"},
}


def write_report(folder, classes, steps=3, figures=({"ap": None}, {"ap": 0.25})):
    lines = [
        {"step": k + 1, "epoch": 1, "lr": 0.1, "loss": 2.0, "parts": {"a": 1.0, "b": 1.0}}
        for k in range(steps)
    ]
    (folder / "steps.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    epochs = [
        {"step": k, "epoch": k, "figures": one, "seconds": 1.0} for k, one in enumerate(figures)
    ]
    write_training_report(folder, FACTS, epochs, classes, "ap", best=1)
    return (folder / "report.html").read_text()


@pytest.mark.parametrize("steps", [0, 1, 3, 200])
def test_figures_and_classes_are_in_it(tmp_path, steps):
    page = write_report(
        tmp_path, [{"class": "dog", "truth": 3, "ap": 0.25, "best_f1": None}], steps
    )
    assert (
        "<td>0.2500</td>" in page
        and "<td>dog</td>" in page
        and page.count("data:image/png;base64,") == 2
    )


def test_without_a_single_figure_there_is_a_page(tmp_path):
    assert "Training losses" in write_report(tmp_path, [], figures=({"ap": None}, {"ap": None}))


def test_what_others_have_named_is_text_and_nothing_is_fetched(tmp_path):
    page = write_report(tmp_path, [{"class": "<img src=x onerror=y>", "ap": 1.0}])
    assert "&lt;b&gt;net&lt;/b&gt;" in page and "<img src=x" not in page and "<script" not in page
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == []
    assert "default-src 'none'" in html.unescape(page)
