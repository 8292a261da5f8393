"""Where the network errs: confusion, classes, confidence, and the photos it was most confidently wrong about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from finetunekit.reports.html import Child, Html, PageSection, data_uri, h, interval_plot, join, table

from ..confusion_matrix import draw_confusion_matrix
from ..reliability import draw_reliability
from .album import Album, grid
from .figures import inline
from .heat import heat_picture
from .verdict import interval_row
from .words import between, count, of, percent

if TYPE_CHECKING:
    from finetunekit import FinishedRun

    Row = Mapping[str, str]

MOST_PLOTTED = 16


def confusion_section(run: FinishedRun) -> PageSection:
    """Counts of true against predicted classes."""
    test = run.metrics.get("test") or {}
    if not test.get("confusion"):
        return PageSection("confusion", "Confusion", h("p", "This run's metrics hold no confusion matrix."))
    counts = tuple(tuple(int(n) for n in row) for row in test["confusion"])
    right, total = test["accuracy"]["successes"], test["accuracy"]["photos"]
    words = f"{right} of {total} test photos right. Shade: share of the true class's photos in the row, %."
    figure = inline(draw_confusion_matrix(counts, run.classes, "test", is_titled=False))
    return PageSection("confusion", "Confusion", join([h("p", words), figure]))


def classes_section(run: FinishedRun) -> PageSection:
    """Recall, precision and F1 of each class."""
    scored = (run.metrics.get("test") or {}).get("classes")
    if not scored:
        return PageSection("classes", "Per class", h("p", "This run's metrics hold no scores of single classes."))
    parts: list[Html] = []
    plotted = [one for one in scored if one["recall"]]
    if 0 < len(plotted) <= MOST_PLOTTED:
        rows = [interval_row(run.classes[one["index"]], one["recall"]) for one in plotted]
        axis = "of a class's test photos, those found, with 95 % intervals"
        parts.append(h("figure", interval_plot(rows, name="recall", title="Recall of each class", axis=axis)))
    head = (
        "class",
        "found (recall)",
        "95 % interval",
        "rightly named (precision)",
        "95 % interval",
        "F1",
        "95 % interval",
    )
    cells = [[run.classes[one["index"]], *_class_cells(one)] for one in scored]
    parts.append(table(head, cells, caption="Each class on the test split", numbers=range(1, 7)))
    return PageSection("classes", "Per class", join(parts))


def _class_cells(one: Mapping[str, Any]) -> Iterator[str]:
    for score in (one["recall"], one["precision"]):
        yield of(score) if score else "–"
        yield between(score["interval"]) if score else "–"
    yield percent(one["f1"])
    yield between(one["f1_interval"])


def reliability_section(run: FinishedRun) -> PageSection:
    """Does a confidence of 90 % mean right nine times in ten?"""
    calibration = (run.metrics.get("test") or {}).get("calibration")
    if not calibration:
        return PageSection("reliability", "Reliability", h("p", "This run's metrics hold no calibration."))
    error = calibration["expected_error"]
    is_refuted = error["interval"]["low"] > 0.0
    said = (
        "Its confidence is not to be taken at its word: more than chance explains."
        if is_refuted
        else "So many photos show no fault in its confidence."
    )
    text = (
        f"Expected calibration error {percent(error['value'])} (95 % interval {between(error['interval'])}); a perfectly "
        f"calibrated network of the same confidences would show {percent(error['if_calibrated'])} on as many photos. {said}"
    )
    parts = [inline(draw_reliability(calibration, "test")), h("p", text)]
    fit = (run.metrics["test"].get("temperature") or {}).get("fit")
    if fit:
        end = " and stopped at the end of the range searched" if fit.get("bound_hit") else ""
        after = run.metrics["test"]["temperature"]["calibration"]["expected_error"]
        parts.append(
            h("p", f"After dividing the logits by {fit['temperature']:.2f}, a temperature fitted on validation photos only{end}: "
              f"{percent(after['value'])} ({between(after['interval'])}).")
        )  # fmt: skip
    return PageSection("reliability", "Reliability", join(parts))


def mistakes_section(run: FinishedRun, album: Album, most: int) -> PageSection:
    """Test photos that were got wrong, most confident first, with where the network looked."""
    test = [row for row in run.predictions if row["split"] == "test" and row["true"]]
    wrong = sorted((row for row in test if row["predicted"] != row["true"]), key=_by_confidence)
    if not wrong:
        return PageSection("mistakes", "Mistakes", h("p", f"None: all {count(len(test), 'test photo')} right."))
    shown = wrong[:most]
    words = f"{len(wrong)} of {count(len(test), 'test photo')} wrong"
    words += f"; the {len(shown)} most confident ones." if len(shown) < len(wrong) else ", most confident first."
    gradcam = run.optional("gradcam.json")
    figures = [_mistake(run, row, album, gradcam) for row in shown]
    return PageSection(
        "mistakes", "Mistakes", join([h("p", words), _about_heat(gradcam), grid(figures, "pairs" if gradcam else "")])
    )


def _by_confidence(row: Row) -> tuple[float, str]:
    return -float(row[f"p_{row['predicted']}"]), row["path"]


def _about_heat(gradcam: Mapping[str, Any] | None) -> Html:
    if gradcam is None:
        return h("p", "This run kept no Grad-CAM.", at={"class": "muted small"})
    return h("p", gradcam["words"], at={"class": "muted small"})


def _mistake(run: FinishedRun, row: Row, album: Album, gradcam: Mapping[str, Any] | None) -> Html:
    given, true = row["predicted"], row["true"]
    caption: list[Child] = [
        h("span", "✕ ", at={"class": "cross", "aria-hidden": "true"}),
        h("strong", f"{given} {percent(float(row[f'p_{given}']))}"),
        h("br"),
        f"true: {true} {percent(float(row[f'p_{true}']))}",
        h("br"),
        row["path"],
    ]
    map_ = ((gradcam or {}).get("maps") or {}).get(row["sha256"])
    return album.figure(row, caption, kind="wrong", beside=_heat(run, row, album, map_))


def _heat(run: FinishedRun, row: Row, album: Album, map_: Any) -> Html | None:
    if map_ is None:
        return None
    fit = (run.config.get("pixels") or {}).get("fit", "stretch")
    picture = album.bounded(heat_picture(album.take(row), map_, is_cropped=fit == "crop"))
    if picture.content is None:
        return None
    alt = f"where the network looked for {row['predicted']} in {row['path']}"
    return h(
        "img", at={"src": data_uri(picture.content), "alt": alt, "width": picture.width_px, "height": picture.height_px}
    )
