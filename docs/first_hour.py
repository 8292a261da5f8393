"""What the README shows of a first hour: its commands, run on drawn photos, their output, and pictures of the two pages.

    python docs/first_hour.py

The photos are the program's own drawings; one of them is put into another class's folder first. EfficientNet-Lite0's weights are fetched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pictures import take

DOCS = Path(__file__).parent
PLANTED = ("train/tiger/tiger-train-007.png", "train/lynx/holiday.png")


def main() -> None:
    """Print every command and what it prints, and write `docs/images/first_audit.png` and `first_report.png`."""
    from chromium import browser

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ask(folder, "data draw photos --per-class 30 --size 40")
        photos = folder / "photos"
        shutil.move(photos / PLANTED[0], photos / PLANTED[1])
        ask(folder, "data audit photos --network --html audit.html")
        shutil.move(photos / PLANTED[1], photos / PLANTED[0])
        said = ask(folder, "run photos --recipe fast")
        (photos / "display").rename(folder / "new")
        for photo in sorted((folder / "new").iterdir())[3:]:
            photo.unlink()
        ask(folder, "predict last new")
        with browser() as chromium:
            take(chromium, folder / "audit.html", "first_audit.png", "#warning-1-label", "#warning-1-label")
            take(chromium, folder / said[-1], "first_report.png", "header", "nav")


def ask(folder: Path, command: str) -> list[str]:
    """Run `finetunekit COMMAND` in a folder; the lines of its stdout."""
    print(f"$ finetunekit {command}", flush=True)
    state = {"FINETUNEKIT_STATE": str(folder / "state"), "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "finetunekit", *command.split()],
        cwd=folder,
        env={**os.environ, **state},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(done.stdout, flush=True)
    return done.stdout.splitlines()


if __name__ == "__main__":
    main()
