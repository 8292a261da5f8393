"""The documentation's pictures of pages, of a run on drawn photos: `python docs/pictures.py RUN [OTHER_RUN]`.

Photos in them are the program's own drawings; a run on anything else is refused.
"""

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from chromium import Browser, browser  # noqa: E402

from finetunekit.experiments.compare import compare_runs  # noqa: E402
from finetunekit.reports.comparison_page import comparison_page  # noqa: E402
from finetunekit.runs.folder import FinishedRun, find_run, report_page  # noqa: E402

IMAGES = DOCS / "images"
WIDTH_PX = 900


def main(*names: str) -> None:
    """Write `docs/images/report*.png`, and `comparison.png` where a second run is named."""
    paths = [find_run(name) for name in names]
    for path in paths:
        if not FinishedRun(path).stand_in:
            raise SystemExit(
                f"{path}: its photos are not drawn ones; no photo of anybody belongs into the documentation."
            )
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        take(chromium, report_page(paths[0]), "report.png", "header", "nav")
        take(chromium, report_page(paths[0]), "report_baselines.png", "#baselines", "#baselines figure")
        take(chromium, report_page(paths[0]), "report_mistakes.png", "#mistakes", "#mistakes")
        take(chromium, report_page(paths[0]), "report_phone.png", "header", "nav", width_px=390)
        if len(paths) > 1:
            page = Path(folder) / "comparison.html"
            page.write_bytes(comparison_page(compare_runs(paths)))
            take(chromium, page, "comparison.png", "header", "#pair-2")


def take(chromium: Browser, page: Path, name: str, first: str, last: str, *, width_px: int = WIDTH_PX) -> None:
    """Write the part of a page from one element to the end of another, as a palette PNG."""
    chromium.open(page, width_px=width_px)
    top = chromium.evaluate(f"document.querySelector('{first}').getBoundingClientRect().top + scrollY")
    bottom = chromium.evaluate(f"document.querySelector('{last}').getBoundingClientRect().bottom + scrollY")
    clip = {"x": 0, "y": max(0.0, top - 8), "width": width_px, "height": bottom - top + 24}
    with Image.open(BytesIO(chromium.screenshot(clip=clip))) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        IMAGES.mkdir(exist_ok=True)
        small.save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
