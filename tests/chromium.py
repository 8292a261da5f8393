"""Headless Chromium through its DevTools pipe: no driver, no port, no package. Tests use it, and the command that makes the figures."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--no-first-run", "--no-default-browser-check", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--force-color-profile=srgb", "--remote-debugging-pipe", "about:blank",
)  # fmt: skip
#: A page whose condition never comes true, or a browser that hangs, must not hold up the tests for ever.
LONGEST_SILENCE_S = 120


def find_chromium() -> str | None:
    """The browser's path; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Browser:
    """One page of a browser.

    Attributes:
        problems: What the page wrote to the console as an error or a warning, exceptions, and requests that went out.
    """

    to_browser: int
    from_browser: int
    session: str = ""
    problems: list[str] = field(default_factory=list)
    _number: int = 0
    _unread: bytes = b""
    _loaded: bool = False

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, path: Path, *, width_px: int = 1280, height_px: int = 900, is_dark: bool = False) -> None:
        """Show a file at a width and wait until it is loaded."""
        self.go(path.resolve().as_uri(), width_px=width_px, height_px=height_px, is_dark=is_dark)

    def go(self, url: str, *, width_px: int = 1280, height_px: int = 900, is_dark: bool = False) -> None:
        """Show what lies at an address, and wait until it is loaded."""
        mobile = width_px < 600
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 2 if mobile else 1, "mobile": mobile}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        self.ask("Page.navigate", url=url)
        while not self._loaded:
            self._next()

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true, asked at every frame of the page."""
        self.evaluate(f"new Promise(done => (function ask() {{ ({condition}) ? done() : setTimeout(ask, 20) }})())")

    def choose_files(self, selector: str, paths: Sequence[Path]) -> None:
        """Choose files in an `<input type="file">`."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", files=[str(path.resolve()) for path in paths], nodeId=node)

    def press_tab(self) -> None:
        """Press the tabulator once."""
        key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **key)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **key)

    def screenshot(self, *, clip: Mapping[str, float] | None = None, is_whole: bool = True) -> bytes:
        """The page as PNG: all of it, or the window, or a part of it."""
        more = {"clip": {**clip, "scale": 1}} if clip else {}
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=is_whole or bool(clip), **more)
        return base64.b64decode(answer["data"])

    def print_pdf(self) -> bytes:
        """The page on paper, A4."""
        answer = self.ask(
            "Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True, printBackground=False
        )
        return base64.b64decode(answer["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            if not select.select([self.from_browser], [], [], LONGEST_SILENCE_S)[0]:
                raise RuntimeError(f"the browser has said nothing for {LONGEST_SILENCE_S} s")
            part = os.read(self.from_browser, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._unread += part
        line, self._unread = self._unread.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, told: Mapping[str, Any]) -> None:
        self._loaded |= method == "Page.loadEventFired"
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.problems.append(str(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.problems.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not told["request"]["url"].startswith(
            ("file:", "data:", "about:")
        ):
            self.problems.append(f"request to {told['request']['url']}")


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser of its own, with a fresh profile that is deleted afterwards."""
    chromium = find_chromium()
    if chromium is None:
        raise RuntimeError(f"none of {', '.join(NAMES)} is installed")
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The browser reads commands from file descriptor 3 and answers on 4.
        places = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", places, "bash", chromium, f"--user-data-dir={profile}", *FLAGS]
        process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield _page(Browser(ours_out, ours_in))
        finally:
            os.close(ours_out)
            os.close(ours_in)
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _page(page: Browser) -> Browser:
    target = page.ask("Target.createTarget", url="about:blank")["targetId"]
    page.session = page.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
        page.ask(f"{domain}.enable")
    return page
