"""`finetunekit review`: a real server on loopback, a real browser; what was acknowledged is on the disk."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from chromium import browser, find_chromium
from conftest import write_photos
from PIL import Image

from finetunekit.data.decisions import in_force, open_decisions, read_decisions
from finetunekit.errors import RunFolderError
from finetunekit.runs.folder import FinishedRun
from finetunekit.serving.guard import Access, decide_access
from finetunekit.serving.review.app import make_review_app
from finetunekit.serving.review.opening import open_review
from finetunekit.serving.server import Server, uvicorn_server
from finetunekit.system.progress import Progress

TOKEN = "0123456789abcdef-secret"


@pytest.fixture
def root(tmp_path: Path, own_cache: Path) -> Path:
    """Photos of three classes; one of the test photos lies among the training photos as well."""
    found = write_photos(tmp_path / "photos")
    shutil.copy(found / "test/red/red-0.png", found / "train/red/again.png")
    (found / "train/red/=odd\nname.png").write_bytes((found / "train/red/red-1.png").read_bytes())
    return found


@contextmanager
def reviewing(target: Path, decisions: Path, access: Access | None = None, **more: Any) -> Iterator[str]:
    with ExitStack() as stack:
        opened = stack.enter_context(
            open_review(str(target), decisions=decisions, progress=Progress(is_quiet=True), **more)
        )
        access = access or decide_access("127.0.0.1", None)
        app = uvicorn_server(lambda: make_review_app(opened, access, print), connections=32)
        yield stack.enter_context(Server(lambda: app, access, 0)).url


@pytest.fixture
def url(root: Path, tmp_path: Path) -> Iterator[str]:
    with reviewing(root, tmp_path / "decisions.csv", has_network=False) as found:
        yield found


def get(url: str, path: str, **more: Any) -> requests.Response:
    return requests.get(url + path, timeout=60, **more)


def decide(url: str, kind: str, photos: list[int], *, who: str = "Ann", **more: str) -> requests.Response:
    return requests.post(f"{url}/v1/decisions", json={"kind": kind, "photos": photos, "who": who, **more}, timeout=60)


def numbers(url: str) -> dict[str, int]:
    return {photo["name"]: photo["number"] for photo in get(url, "/v1/photos?count=500").json()["photos"]}


def test_a_leak_is_a_card_with_both_photos_and_the_one_to_leave_out(url: str) -> None:
    (queue,) = get(url, "/v1/review").json()["queues"]
    cards = get(url, "/v1/cards/audit").json()["cards"]
    assert queue["cards"] == len(cards)
    leak = next(card for card in cards if card["kind"] == "leak")
    assert [photo["name"] for photo in leak["photos"]] == ["test/red/red-0.png", "train/red/again.png"]
    assert leak["meant"] == 1, "the training side is the one that would be left out"
    assert cards[0]["severity"] == "error", "errors come first"
    for photo in leak["photos"]:
        picture = get(url, f"/v1/photos/{photo['number']}/small")
        assert picture.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(picture.content)).size == (8, 8)


def test_a_decision_is_a_line_on_the_disk_before_it_is_answered(url: str, root: Path, tmp_path: Path) -> None:
    leak = next(card for card in get(url, "/v1/cards/audit").json()["cards"] if card["kind"] == "leak")
    answer = decide(url, "leave out", [leak["photos"][1]["number"]], why="leak: the same file").json()
    (line,) = read_decisions(tmp_path / "decisions.csv")
    assert (line.path, line.kind, line.who, line.was) == ("train/red/again.png", "leave out", "Ann", "red")
    assert len(line.sha256) == 64
    assert answer["review"]["queues"][0]["done"] == 1
    assert answer["photos"][0]["decision"] == "leave out"
    assert requests.post(f"{url}/v1/undo", json={"who": "Bo"}, timeout=60).json() == {
        "error": "There is nothing of yours to undo."
    }
    undone = requests.post(f"{url}/v1/undo", json={"who": "Ann"}, timeout=60).json()
    assert (undone["review"]["queues"][0]["done"], undone["photos"][0]["decision"]) == (0, "")
    assert in_force(read_decisions(tmp_path / "decisions.csv")) == ()
    odd = numbers(url)["train/red/=odd\\nname.png"]
    decide(url, "label", [odd], now="blue")
    assert read_decisions(tmp_path / "decisions.csv")[-1].path == "train/red/=odd\nname.png"
    assert sorted(path.name for path in (root / "train/red").iterdir())[0] == "=odd\nname.png", "no photo is touched"


def test_groups_that_share_a_photo_become_one(url: str, tmp_path: Path) -> None:
    known = numbers(url)
    names = [f"train/blue/blue-{i}.png" for i in range(4)]
    one, two, three, four = (known[name] for name in names)
    decide(url, "group", [one, two])
    decide(url, "group", [three, four])
    decide(url, "group", [two, three], who="Bo")
    groups = {line.path: line.now for line in in_force(read_decisions(tmp_path / "decisions.csv"))}
    assert {groups[name] for name in names} == {"group 1"}


REFUSED: tuple[tuple[Any, int, str], ...] = (
    ({"kind": "delete", "photos": [0], "who": "Ann"}, 422, "is not a decision"),
    ({"kind": "keep", "photos": [10**9], "who": "Ann"}, 422, "about 1 to"),
    ({"kind": "keep", "photos": [-1], "who": "Ann"}, 422, "about 1 to"),
    ({"kind": "keep", "photos": ["../../etc/passwd"], "who": "Ann"}, 400, "has this form"),
    ({"kind": "keep", "photos": [True], "who": "Ann"}, 400, "has this form"),
    ({"kind": "keep", "photos": [0], "who": " "}, 422, "Give a name first"),
    ({"kind": "keep", "photos": [0], "who": "A\nB"}, 422, "on one line"),
    ({"kind": "label", "photos": [0], "who": "Ann", "now": ""}, 422, "label needs the name of a class"),
    ({"kind": "group", "photos": [0], "who": "Ann"}, 422, "at least two photos"),
    ([], 400, "Send a JSON object"),
    ({"kind": "keep", "photos": [0], "who": "Ann", "session": "of before"}, 409, "started again"),
)


def test_what_is_no_decision_is_refused_in_a_sentence(url: str, tmp_path: Path) -> None:
    for sent, status, words in REFUSED:
        answer = requests.post(f"{url}/v1/decisions", json=sent, timeout=60)
        assert answer.status_code == status, sent
        assert words in answer.json()["error"]
    assert read_decisions(tmp_path / "decisions.csv") == ()


def test_only_photos_of_the_review_are_served_and_only_to_its_own_page(url: str, tmp_path: Path) -> None:
    for path in ("99999/small", "0/..%2f..%2fetc", "-1/small", "0/huge", "..%2f..%2fetc%2fpasswd/small"):
        assert get(url, f"/v1/photos/{path}").status_code == 404
    assert get(url, "/v1/review", headers={"Host": "evil.example"}).status_code == 403
    sent = {"kind": "keep", "photos": [0], "who": "Ann"}
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        assert requests.post(f"{url}/v1/decisions", json=sent, headers=headers, timeout=60).status_code == 403
    form = requests.post(
        f"{url}/v1/decisions", data='{"kind": "keep"}', headers={"Content-Type": "text/plain"}, timeout=60
    )
    assert form.status_code == 415, "another site's form cannot send this kind"
    assert (
        requests.post(
            f"{url}/v1/decisions", data=b"x" * 2**21, headers={"Content-Type": "application/json"}, timeout=60
        ).status_code
        == 413
    )
    page = get(url, "/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert read_decisions(tmp_path / "decisions.csv") == ()


def test_with_a_token_the_page_alone_is_open_and_a_second_review_waits_its_turn(root: Path, tmp_path: Path) -> None:
    decisions = tmp_path / "decisions.csv"
    with reviewing(root, decisions, decide_access("127.0.0.1", TOKEN), has_network=False) as url:
        assert [get(url, path).status_code for path in ("/", "/review.js", "/v1/review", "/v1/photos/0/small")] == [
            200,
            200,
            401,
            401,
        ]
        assert get(url, "/v1/review", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        with pytest.raises(RunFolderError, match="another review is writing it"), open_decisions(decisions):
            raise AssertionError


@pytest.mark.parametrize("count", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_killed_in_the_middle_of_decisions_nothing_acknowledged_is_lost(root: Path, tmp_path: Path, count: int) -> None:
    decisions = tmp_path / "decisions.csv"
    command = [
        sys.executable,
        "-m",
        "finetunekit",
        "review",
        str(root),
        "--decisions",
        str(decisions),
        "--no-network",
        "--port",
        "0",
    ]
    acknowledged: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()

        def ask() -> None:
            with requests.Session() as session:
                for i in range(count):
                    sent = {"kind": "label", "photos": [i % 20], "who": "Ann", "now": f"class {i}"}
                    try:
                        if session.post(f"{url}/v1/decisions", json=sent, timeout=60).status_code == 200:
                            acknowledged.append(f"class {i}")
                    except requests.RequestException:
                        return
                    if i == count // 2:
                        half.set()

        half = threading.Event()
        asking = threading.Thread(target=ask)
        asking.start()
        assert half.wait(120)
        os.kill(process.pid, signal.SIGKILL)
        asking.join()
    assert count // 2 < len(acknowledged) <= count
    with reviewing(root, decisions, has_network=False) as url:
        kept = [line.now for line in read_decisions(decisions)]
        assert kept[: len(acknowledged)] == acknowledged
        assert len(kept) <= len(acknowledged) + 1
        assert get(url, "/v1/review").json()["decided"] == {"label": 20}
        assert decide(url, "keep", [0]).status_code == 200, "and it goes on"


def test_a_run_shows_its_mistakes_the_most_confident_first_and_a_map_of_its_photos(
    copied_run: Path, tmp_path: Path, own_cache: Path
) -> None:
    with reviewing(copied_run, tmp_path / "decisions.csv", has_network=False) as url:
        rows = [
            row
            for row in FinishedRun(copied_run).predictions
            if row["true"] != row["predicted"] and row["split"] != "display"
        ]
        cards = get(url, "/v1/cards/mistakes?count=500").json()["cards"]
        assert len(cards) == len(rows) > 0
        shares = [
            max(float(row[f"p_{row['predicted']}"]) for row in rows if row["path"] == card["photos"][0]["name"])
            for card in cards
        ]
        assert shares == sorted(shares, reverse=True)
        assert all(card["label"] in card["title"] for card in cards)
        found = get(url, "/v1/map")
        while found.status_code == 202:
            found = get(url, "/v1/map")
        points = found.json()["photos"]
        assert len(points) == get(url, "/v1/review").json()["photos"]
        assert all(0 <= value <= 10_000 for _, *place in points for value in place)
        like = get(url, "/v1/like/3?count=5").json()["photos"]
        assert like[0]["number"] == 3
        assert len(like) == 5
        if find_chromium() is not None:
            check_lasso(url, len(points))


def check_lasso(url: str, photos: int) -> None:
    """A line drawn around the whole map chooses every photo on it, and a key then decides about all of them."""
    with browser() as page:
        page.go(url)
        page.wait_for("[...document.querySelectorAll('#views button')].some(one => one.textContent === 'Map')")
        page.evaluate("document.getElementById('who').value = 'Ann'")
        page.evaluate("[...document.querySelectorAll('#views button')].find(one => one.textContent === 'Map').click()")
        page.wait_for("document.querySelectorAll('#legend li').length === 3")
        box = page.evaluate(
            "(({x, y, width, height}) => [x, y, width, height])(document.getElementById('map').getBoundingClientRect())"
        )
        corners = [
            (box[0] + dx * (box[2] - 4) + 2, box[1] + dy * (box[3] - 4) + 2)
            for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1))
        ]
        kinds = ("mousePressed", "mouseMoved", "mouseMoved", "mouseMoved", "mouseReleased")
        for kind, (x, y) in zip(kinds, (*corners, corners[3]), strict=True):
            page.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        page.wait_for(f"document.getElementById('status').textContent.startsWith('{photos} photos')")
        page.evaluate("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'u', bubbles: true}))")
        page.wait_for(f"document.getElementById('decided').textContent.includes('{photos} unsure')")


def test_without_a_network_the_map_says_what_to_do(url: str) -> None:
    assert "--network" in get(url, "/v1/map").json()["error"]


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium")
def test_the_page_decides_by_keys_and_undoes(url: str, tmp_path: Path) -> None:
    def press(key: str) -> str:
        return f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))"

    with browser() as page:
        page.go(url, width_px=390, height_px=844, is_dark=True)
        page.wait_for("document.querySelector('#card figure img')?.complete")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no horizontal scroll"
        page.evaluate(press("x"))
        page.wait_for("document.getElementById('status').textContent.includes('name first')")
        page.evaluate("document.getElementById('who').value = 'Ann'; document.activeElement.blur()")
        page.evaluate(press("x"))
        page.wait_for("document.getElementById('status').textContent.startsWith('left out')")
        assert [line.kind for line in read_decisions(tmp_path / "decisions.csv")] == ["leave out"]
        page.evaluate(press("z"))
        page.wait_for("document.getElementById('status').textContent.startsWith('Undone')")
        page.go(url)
        page.wait_for("[...document.querySelectorAll('#views button')].some(one => one.textContent === 'All photos')")
        page.evaluate(
            "[...document.querySelectorAll('#views button')].find(one => one.textContent === 'All photos').click()"
        )
        page.wait_for("document.querySelectorAll('.tile').length > 3")
        page.evaluate("document.querySelectorAll('.tile')[0].click(); document.querySelectorAll('.tile')[1].click()")
        page.evaluate("document.getElementById('who').value = 'Bo'")
        page.evaluate(press("2"))  # the second class
        page.wait_for("document.getElementById('decided').textContent.includes('2 label')")
        problems = [said for said in page.problems if not said.startswith(f"request to {url}")]
    assert problems == []
    assert [line.who for line in read_decisions(tmp_path / "decisions.csv")] == ["Ann", "Ann", "Bo", "Bo"]
