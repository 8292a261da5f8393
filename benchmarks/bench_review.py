"""The review page before many photos: seconds until the first card, and from a key to the next one, in a real browser.

    python benchmarks/bench_review.py [--photos 20000] [--decisions 200]

Small photos are drawn, a tenth of them twice, in two splits. The server is a process of its own; Chromium is driven through its DevTools
pipe. The audit comes before the server answers and is said apart. A card counts as shown when all of its pictures are decoded.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import describe_machine
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from chromium import Browser, browser

CLASSES = ("blue", "green", "red", "yellow")
SIDE_PX = 12
"""Below 16 px the audit compares photos by content alone, so that what is waited for before the page is short."""
_SHOWN = "[...document.querySelectorAll('#card img')].every(one => one.complete && one.naturalWidth > 0)"
_READY = f"document.querySelectorAll('#card img').length > 0 && {_SHOWN}"
#: Press a key and wait for another card whose pictures are there; milliseconds.
_STEP = """new Promise((done) => {
  const before = document.getElementById('position').textContent, began = performance.now();
  document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '%s', bubbles: true }));
  (function look() {
    const isNext = document.getElementById('position').textContent !== before && %s;
    isNext ? done(performance.now() - began) : requestAnimationFrame(look);
  })();
})"""
_SCROLL = """new Promise((done) => {
  const grid = document.getElementById('grid'), began = performance.now();
  grid.scrollTop = %d;
  (function look() {
    const images = [...document.querySelectorAll('.tile img')];
    const isThere = images.length > 8 && images.every((one) => one.complete && one.naturalWidth > 0);
    isThere && performance.now() > began + 20 ? done(performance.now() - began) : requestAnimationFrame(look);
  })();
})"""


def draw(root: Path, photos: int) -> None:
    """Noise of a few blocks, so that no two are alike but the copies."""
    rng = np.random.default_rng(0)
    for number in range(photos):
        label = CLASSES[number % len(CLASSES)]
        split = ("train", "valid", "test")[(number // len(CLASSES)) % 3]
        folder = root / split / label
        folder.mkdir(parents=True, exist_ok=True)
        blocks = rng.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(blocks).resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST).save(folder / f"{number:06d}.png")
        if number % 10 == 0:
            other = root / ("valid" if split == "train" else "train") / label
            other.mkdir(parents=True, exist_ok=True)
            os.link(folder / f"{number:06d}.png", other / f"copy-{number:06d}.png")


def measure(page: Browser, url: str, decisions: int) -> None:
    """Print what a reviewer waits for."""
    began = time.perf_counter()
    page.go(url)
    page.wait_for(_READY)
    print(f"first card {time.perf_counter() - began:.2f} s")
    page.evaluate("document.getElementById('who').value = 'Ann'")
    steps = {
        "next card, looking": ["ArrowRight"] * decisions,
        "next card, deciding": ["x", "k", "u", "g"] * (decisions // 4),
    }
    for words, keys in steps.items():
        _say(words, [page.evaluate(_STEP % (key, _SHOWN)) for key in keys])
    page.evaluate(
        "[...document.querySelectorAll('#views button')].find(one => one.textContent === 'All photos').click()"
    )
    page.wait_for("document.querySelectorAll('.tile img').length > 8")
    places = np.random.default_rng(0).integers(0, page.evaluate("document.getElementById('grid').scrollHeight"), 40)
    _say("grid, anywhere", [page.evaluate(_SCROLL % place) for place in places])
    tiles = page.evaluate("document.querySelectorAll('.tile').length")
    print(f"tiles in the page {tiles}")


def _say(words: str, times: Sequence[float]) -> None:
    found = np.array(times)
    middle, most = np.median(found), np.quantile(found, 0.95)
    print(f"{words:20} median {middle:.0f} ms, p95 {most:.0f} ms, slowest {found.max():.0f} ms of {len(found)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, serve, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--decisions", type=int, default=200)
    options = parser.parse_args(arguments)
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "photos")
        draw(root, options.photos)
        environment = os.environ | {"FINETUNEKIT_CACHE": str(Path(folder, "cache"))}
        command = [sys.executable, "-m", "finetunekit", "review", str(root), "--no-network", "--port", "0"]
        began = time.perf_counter()
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            print(
                f"{options.photos} photos and copies of a tenth of them; audit, first time {time.perf_counter() - began:.0f} s",
                flush=True,
            )
            try:
                with browser() as page:
                    measure(page, url, options.decisions)
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
