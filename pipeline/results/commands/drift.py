"""Check whether a run's images and detections have drifted from those of an earlier run.

  drift run=NEW reference=OLD

The exit code is 7 if a measure is above its threshold and chance alone does not explain it. Shares
of classes are compared by the population stability index and the Jensen-Shannon distance; numbers
are compared by the Kolmogorov-Smirnov statistic. The command writes drift.json and drift.png.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.config.declare import setting
from pipeline.config.validators import (
    check_fraction,
    check_integer,
    check_optional_path,
    check_path,
)
from pipeline.core.errors import RunDrifted
from pipeline.core.locations import Location
from pipeline.results.drift.distributions import CLASS, Distributions, measure_distributions
from pipeline.results.drift.measures import jensen_shannon, kolmogorov_smirnov, stability_index
from pipeline.results.drift.plot import save_distribution_plot
from pipeline.results.settings_diff import diff_settings, format_settings_diff
from pipeline.runs.finished_run import FinishedRun
from pipeline.storage.publish import publish_folder

_MOST_TOLD = 8  # largest number of classes to list


@dataclass(frozen=True)
class Options:
    run: Location = setting(check_path, Path("outputs/latest"), "the run's folder")
    reference: Location = setting(check_path, help="the folder of the earlier run to compare with")
    output: Location | None = setting(
        check_optional_path,
        None,
        "a new folder; RUN/drift/REFERENCE's name unless given, made anew",
    )
    psi: float = setting(
        check_fraction(float("inf")),
        0.25,
        "population stability index of classes; 0.1 is usual for a warning",
    )
    js: float = setting(check_fraction(1.0), 0.2, "Jensen-Shannon distance of classes")
    ks: float = setting(
        check_fraction(1.0),
        0.2,
        "Kolmogorov-Smirnov statistic of scores, counts, sizes, brightness",
    )
    chance: float = setting(
        check_fraction(1.0),
        0.01,
        "a value that is more probable than this without drift is not reported",
    )
    brightness: int = setting(
        check_integer(0),
        500,
        "images of each run to read again, to measure their brightness; 0: none",
    )


@dataclass(frozen=True)
class Measure:
    """One measure of drift between the distributions of the reference and the run."""

    what: str  # name of the distribution
    measure: str  # PSI, JS or KS
    value: float
    threshold: float
    chance: float  # probability that a value at least as large occurs without drift
    n: tuple[int, int]  # number of values in the reference and in the run
    median: tuple[float, float] | None  # of the reference and of the run; None for categories
    drift: bool


def run_command(options: Options) -> str:
    """Measure drift, write the files and return the command's output text.

    Raises:
        RunDrifted: a measure is above its threshold. The error contains the same text.
    """
    new, reference = FinishedRun.open(options.run), FinishedRun.open(options.reference)
    ours, theirs = (
        measure_distributions(new, options.brightness),
        measure_distributions(reference, options.brightness),
    )
    measures = [*_shares(theirs, ours, options), *_numbers(theirs, ours, options)]
    settings = diff_settings(reference.record, new.record)
    target = options.output or new.path / "drift" / reference.path.name
    with publish_folder(target.absolute(), replace=options.output is None) as stage:
        runs = {"reference": str(reference.path), "run": str(new.path)}
        summary = runs | {"settings": settings, "measures": [asdict(one) for one in measures]}
        (stage / "drift.json").write_text(
            json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        save_distribution_plot(theirs, ours, stage / "drift.png")
    drifted = [one for one in measures if one.drift]
    headline = f"Drift: {len(drifted)} of {len(measures)} measures are above their thresholds."
    lines = [headline if drifted else f"No drift: {len(measures)} measures.", ""]
    lines += [
        f"reference  {reference.path}",
        f"run        {new.path}",
        "",
        format_settings_diff(settings),
        "",
        *_table(measures),
    ]
    lines += _classes(theirs, ours) if any(one.what == CLASS for one in drifted) else []
    text = "\n".join([*lines, "", f"files: {target}"])
    if drifted:
        raise RunDrifted(headline, text)
    return text


def _shares(reference: Distributions, new: Distributions, options: Options) -> list[Measure]:
    """Compare the counts of categories: the statuses and the classes."""
    measures = []
    for what, before in reference.shares.items():
        kinds = sorted({*before, *new.shares[what]})
        p, q = (
            np.array([counts[kind] for kind in kinds], float)
            for counts in (before, new.shares[what])
        )
        n = int(p.sum()), int(q.sum())
        if not all(n):
            continue  # one run has no counts; the measure "detections per image" shows that
        index, chance = stability_index(p, q)
        for measure, value, threshold in (
            ("PSI", index, options.psi),
            ("JS", jensen_shannon(p, q), options.js),
        ):
            drift = value > threshold and chance < options.chance
            measures.append(Measure(what, measure, value, threshold, chance, n, None, drift))
    return measures


def _numbers(reference: Distributions, new: Distributions, options: Options) -> list[Measure]:
    """Compare numeric samples, such as scores or widths."""
    measures = []
    for what, before in reference.numbers.items():
        after = new.numbers.get(what, before[:0])
        if not (len(before) and len(after)):
            continue
        value, chance = kolmogorov_smirnov(before, after)
        median = float(np.median(before)), float(np.median(after))
        drift = value > options.ks and chance < options.chance
        measures.append(
            Measure(what, "KS", value, options.ks, chance, (len(before), len(after)), median, drift)
        )
    return measures


def _table(measures: list[Measure]) -> list[str]:
    """Format the measures as the lines of a table."""
    lines = [
        f"{'':<22}{'measure':<9}{'value':>7}{'threshold':>11}{'chance':>9}   {'values':<23}median"
    ]
    for one in measures:
        chance = f"{one.chance:.3f}" if one.chance >= 0.001 else "<0.001"
        n = f"{one.n[0]:,} -> {one.n[1]:,}"
        median = f"{one.median[0]:.4g} -> {one.median[1]:.4g}" if one.median else ""
        line = (
            f"{one.what:<22}{one.measure:<9}{one.value:>7.3f}{one.threshold:>11g}{chance:>9}   "
            f"{n:<23}{median}"
        )
        lines.append((line.rstrip() + "   DRIFT") if one.drift else line.rstrip())
    return lines


def _classes(reference: Distributions, new: Distributions) -> list[str]:
    """Format a list of the classes whose share of all detections changed most."""
    before, after = reference.shares[CLASS], new.shares[CLASS]
    share = {
        name: (before[name] / before.total(), after[name] / after.total())
        for name in {*before, *after}
    }
    most = sorted(share, key=lambda name: (-abs(share[name][1] - share[name][0]), name))[
        :_MOST_TOLD
    ]
    width = max(map(len, most))
    return [
        "",
        "share of detections",
        *(f"  {name:<{width}}  {share[name][0]:6.1%} -> {share[name][1]:6.1%}" for name in most),
    ]
