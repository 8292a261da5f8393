"""The documentation's picture of the review page, of drawn photos: `python docs/review_picture.py`.

A mirrored copy of a test photo and a lynx among the cats are put into a drawn set, which is then reviewed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from chromium import browser  # noqa: E402
from click.testing import CliRunner  # noqa: E402

from finetunekit.cli import main as finetunekit  # noqa: E402
from finetunekit.serving.guard import decide_access  # noqa: E402
from finetunekit.serving.review.app import make_review_app  # noqa: E402
from finetunekit.serving.review.opening import open_review  # noqa: E402
from finetunekit.serving.server import Server, uvicorn_server  # noqa: E402
from finetunekit.system.progress import Progress  # noqa: E402


def main() -> None:
    """Write `docs/images/review.png`."""
    access = decide_access("127.0.0.1", None)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "photos")
        CliRunner().invoke(finetunekit, ["data", "draw", str(root), "--per-class", "20", "--size", "160"])
        first = sorted((root / "test" / "lynx").iterdir())[0]
        ImageOps.mirror(Image.open(first)).save(root / "train" / "lynx" / "found-on-the-web.png")
        shutil.copy(sorted((root / "train" / "lynx").iterdir())[-1], root / "train" / "cat" / "a-lynx.png")
        with (
            open_review(
                str(root), decisions=Path(folder, "decisions.csv"), has_network=False, progress=Progress()
            ) as opened,
            Server(
                lambda: uvicorn_server(lambda: make_review_app(opened, access, print), connections=16), access, 0
            ) as server,
            browser() as page,
        ):
            page.go(server.url, width_px=1100, height_px=860)
            page.wait_for(
                "document.querySelectorAll('#card img').length > 1 && [...document.images].every((one) => one.complete)"
            )
            page.evaluate("document.getElementById('who').value = 'Ann'")
            content = page.screenshot(is_whole=False)
    with Image.open(BytesIO(content)) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        small.save(DOCS / "images" / "review.png", optimize=True)


if __name__ == "__main__":
    main()
