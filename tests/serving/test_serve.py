"""`finetunekit serve`: a real server on loopback, asked over real sockets; its answers are those of `predict`, to the bit."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import requests
from chromium import browser, find_chromium
from click.testing import CliRunner
from lone_environment import ROOT, lay_out, lay_out_project, run_alone
from packaging.requirements import Requirement
from PIL import Image

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.data import decode_apart
from finetunekit.errors import ConfigError
from finetunekit.serving.api_description import api_description
from finetunekit.serving.guard import Access, decide_access
from finetunekit.serving.served import Served, _window
from finetunekit.serving.server import Limits, Server
from finetunekit.system.progress import Progress

TOKEN = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def paths(finished_run: Path) -> list[Path]:
    return sorted((finished_run.parent.parent / "photos" / "test").rglob("*.png"))


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def server(finished_run: Path, said: list[str]) -> Iterator[Server]:
    with ftk.serve(finished_run, say=said.append, limits=Limits(photos=40, body_bytes=200_000)) as running:
        yield running


@pytest.fixture(scope="module")
def expected(finished_run: Path, paths: list[Path]) -> dict[str, dict[str, float]]:
    return {p.path.name: dict(p.probabilities) for p in ftk.load(finished_run).predict(paths)}


def post(server: Server, path: str = "/v1/predict", **more: Any) -> requests.Response:
    return requests.post(server.url + path, timeout=60, **more)


def form(paths: list[Path]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photos", (path.name, path.read_bytes())) for path in paths]


# ---- answers ---------------------------------------------------------------------------------------------------------------------


def test_every_way_of_sending_gets_the_bits_of_predict(
    server: Server, paths: list[Path], expected: dict[str, dict[str, float]]
) -> None:
    one = paths[0]
    (raw,) = post(server, data=one.read_bytes(), headers={"Content-Type": "image/png"}).json()["predictions"]
    assert raw["probabilities"] == expected[one.name]
    assert raw["label"] == max(expected[one.name], key=lambda name: expected[one.name][name])
    several = post(server, files=form(paths)).json()["predictions"]
    assert [found["name"] for found in several] == [path.name for path in paths]
    assert all(found["probabilities"] == expected[found["name"]] for found in several)
    images = [{"name": p.name, "data": base64.b64encode(p.read_bytes()).decode()} for p in paths]
    images[0]["data"] = "data:image/png;base64," + images[0]["data"]
    sent = post(server, json={"images": images}).json()["predictions"]
    assert all(found["probabilities"] == expected[found["name"]] for found in sent)


def test_an_answer_does_not_depend_on_what_it_was_batched_with(
    server: Server, paths: list[Path], expected: dict[str, dict[str, float]]
) -> None:
    def ask(number: int) -> list[dict[str, Any]]:
        some = [paths[(number + step) % len(paths)] for step in range(1 + number % 5)]
        found: list[dict[str, Any]] = post(server, files=form(some)).json()["predictions"]
        return found

    with ThreadPoolExecutor(8) as pool:
        for found in (one for answers in pool.map(ask, range(40)) for one in answers):
            assert found["probabilities"] == expected[found["name"]]


def test_a_process_that_decodes_is_kept_for_the_next_request(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    class Counted(decode_apart._Worker):
        def __init__(self) -> None:
            super().__init__()
            started.append(1)

    monkeypatch.setattr(decode_apart, "_Worker", Counted)
    photo = io.BytesIO()
    Image.new("RGB", (12, 9), "red").save(photo, "JPEG2000")
    first, second = (post(server, data=photo.getvalue()).json() for _ in range(2))
    assert first["predictions"] == second["predictions"]
    assert len(started) == 1


def test_below_what_is_asked_for_there_is_no_label(server: Server, paths: list[Path]) -> None:
    (found,) = post(server, "/v1/predict?abstain_below=1", data=paths[0].read_bytes()).json()["predictions"]
    assert found["label"] is None
    for wrong in ("nan", "2", "x", "-1"):
        answer = post(server, f"/v1/predict?abstain_below={wrong}", data=b"x")
        assert (answer.status_code, answer.json()) == (400, {"error": "abstain_below must be a number from 0 to 1."})


def test_sets_and_what_is_unlike_are_those_of_predict(server: Server, paths: list[Path], finished_run: Path) -> None:
    own = ftk.load(finished_run).predict(paths, coverage=0.6, abstain_unlike=True)
    sent = post(server, "/v1/predict?coverage=0.6&abstain_unlike=true", files=form(paths)).json()["predictions"]
    keys = ("label", "unlike_p", "is_unlike", "class_set")
    of_predict = [json.loads(json.dumps([getattr(p, key) for key in keys])) for p in own]
    assert [[found[key] for key in keys] for found in sent] == of_predict
    assert any(found["unlike_p"] is not None for found in sent)
    for query in ("coverage=1", "coverage=x", "abstain_unlike=1", "cover=0.9"):
        assert post(server, f"/v1/predict?{query}", data=b"x").status_code == 400


def test_a_photo_that_cannot_be_read_is_named_and_the_others_are_answered(server: Server, paths: list[Path]) -> None:
    sent = [("photos", ("broken.jpg", b"\xff\xd8\xff\xe0 nothing")), *form(paths[:1])]
    answer = post(server, files=sent)
    broken, good = answer.json()["predictions"]
    assert answer.status_code == 200
    assert broken["error"].startswith("broken.jpg: ")
    assert "label" in good
    alone = post(server, files=sent[:1])
    assert alone.status_code == 422


def test_where_it_looked_is_a_map_and_a_picture(server: Server, paths: list[Path]) -> None:
    found = post(server, "/v1/explain?label=red", data=paths[0].read_bytes()).json()
    assert found["label"] == "red"
    assert 0 <= np.min(found["map"]) <= np.max(found["map"]) <= 1
    picture = Image.open(io.BytesIO(base64.b64decode(found["picture"].partition(",")[2])))
    assert (picture.format, picture.mode, picture.size[::-1]) == ("PNG", "RGBA", np.shape(found["map"]))
    wrong = post(server, "/v1/explain?label=pink", data=paths[0].read_bytes())
    assert (wrong.status_code, "Allowed: blue, green, red" in wrong.json()["error"]) == (400, True)


def test_what_it_says_of_itself_and_what_it_offers_are_as_described(server: Server, paths: list[Path]) -> None:
    described = requests.get(server.url + "/openapi.json", timeout=60).json()
    assert described == json.loads(json.dumps(api_description()))
    answers = {
        "Model": requests.get(server.url + "/v1/model", timeout=60),
        "Predictions": post(server, files=form(paths)),
        "Explanation": post(server, "/v1/explain", data=paths[0].read_bytes()),
        "Error": post(server, data=b""),
    }
    for name, answer in answers.items():
        jsonschema.validate(answer.json(), {"$ref": f"#/components/schemas/{name}", **described})
    assert "test photos right" in answers["Model"].json()["words"][0]
    for path, operations in described["paths"].items():
        url = server.url + path.replace("{name}", answers["Model"].json()["name"])
        for method in operations:
            assert requests.request(method, url, timeout=60).status_code != 404, path
    page = requests.get(server.url + "/docs", timeout=60).text
    assert all(path in page for path in described["paths"])


# ---- the Open Inference Protocol -------------------------------------------------------------------------------------------------


def test_a_public_client_of_the_open_inference_protocol_gets_the_same_answers(
    server: Server, paths: list[Path], expected: dict[str, dict[str, float]]
) -> None:
    from tritonclient import http as triton

    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.get_server_metadata()["name"] == "finetunekit"
        assert client.is_model_ready("tiny")
        told = client.get_model_metadata("tiny")
        assert [tensor["name"] for tensor in told["inputs"]] == ["photos", "pixels"]
        classes = told["parameters"]["classes"]
        pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
        files = np.array([base64.b64encode(path.read_bytes()) for path in paths], np.object_)
        for name, kind, values in (("pixels", "UINT8", pixels), ("photos", "BYTES", files)):
            tensor = triton.InferInput(name, list(values.shape), kind)
            tensor.set_data_from_numpy(values, binary_data=False)
            asked = [triton.InferRequestedOutput(one, binary_data=False) for one in ("probabilities", "label")]
            found = client.infer("tiny", [tensor], outputs=asked, request_id="7")
            rows = found.as_numpy("probabilities")
            for path, row in zip(paths, rows, strict=True):
                assert dict(zip(classes, map(float, row), strict=True)) == expected[path.name]
            assert [classes[i] for i in rows.argmax(axis=1)] == list(found.as_numpy("label"))
            assert found.get_response()["id"] == "7"


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "needs one input"),
        ([3], "must be an object"),
        ([{"name": "pixels", "datatype": "FP32", "shape": [1, 1, 1, 3], "data": [1, 2, 3]}], "must be one of 'photos'"),
        ([{"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2]}], "has 3 values. Received: 2"),
        ([{"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 300]}], "from 0 to 255"),
        ([{"name": "pixels", "datatype": "UINT8", "shape": [1, -1, 1, 3], "data": []}], "positive whole numbers"),
        ([{"name": "photos", "datatype": "BYTES", "shape": [1], "data": ["no base64!"]}], "not base64"),
        ([{"name": "photos", "datatype": "BYTES", "shape": [1], "data": [[[7]]]}], "text in base64"),
    ],
)
def test_a_tensor_that_is_not_as_it_says_is_one_sentence(server: Server, inputs: Any, words: str) -> None:
    answer = post(server, "/v2/models/tiny/infer", json={"inputs": inputs})
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_another_model_is_not_here(server: Server) -> None:
    for path in ("/v2/models/other", "/v2/models/tiny/versions/9"):
        assert requests.get(server.url + path, timeout=60).status_code == 404


# ---- who may ask -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_another_sites_name_or_page_is_refused(server: Server, headers: dict[str, str]) -> None:
    for path in ("/", "/v1/model", "/metrics"):
        assert requests.get(server.url + path, headers=headers, timeout=60).status_code == 403
    assert post(server, data=b"x", headers=headers).status_code == 403


def test_two_hosts_in_one_request_are_refused(server: Server) -> None:
    host = server.url.removeprefix("http://")
    lines = f"GET /v1/model HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert raw(server, lines.encode()).startswith((b"HTTP/1.1 403", b"HTTP/1.1 400"))


def raw(server: Server, sent: bytes) -> bytes:
    name, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((name, int(port)), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        parts = iter(lambda: connection.recv(65536), b"")
        return b"".join(parts)


def test_the_servers_own_page_may_ask_and_nothing_else_may_show_it(server: Server) -> None:
    answer = requests.get(server.url + "/v1/model", headers={"Origin": server.url}, timeout=60)
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers
    policy = requests.get(server.url + "/", timeout=60).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


def test_with_a_token_only_those_who_know_it_are_answered(finished_run: Path, paths: list[Path]) -> None:
    with ftk.serve(finished_run, token=TOKEN) as server:
        for given in (
            {},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": TOKEN},
            {"Authorization": "Bearer ü"},
        ):
            headers = {name: value.encode("latin-1") for name, value in given.items()}
            answer = post(server, data=paths[0].read_bytes(), headers=headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert requests.get(server.url + "/metrics", headers=headers, timeout=60).status_code == 401
        good = {"Authorization": f"Bearer {TOKEN}"}
        assert post(server, data=paths[0].read_bytes(), headers=good).status_code == 200
        assert requests.get(server.url + "/", timeout=60).status_code == 200  # the page asks for it
        assert requests.get(server.url + "/v2/health/live", timeout=60).json() == {"live": True}


def test_other_machines_need_a_token() -> None:
    with pytest.raises(ConfigError, match=r"--host 0\.0\.0\.0: other machines could ask, which needs a token"):
        decide_access("0.0.0.0", None)
    assert decide_access("0.0.0.0", TOKEN).names is None
    assert decide_access("127.0.0.1", None, ("cats.local",)).names == {"127.0.0.1", "localhost", "::1", "cats.local"}
    with pytest.raises(ConfigError, match="at least 16 printable ASCII"):
        decide_access("127.0.0.1", "short")


# ---- too much, and nonsense ------------------------------------------------------------------------------------------------------


def test_what_is_too_large_is_not_read(server: Server) -> None:
    assert post(server, data=b"x" * 200_001).status_code == 413
    chunks = (b"x" * 50_000 for _ in range(5))
    assert post(server, data=chunks).status_code == 413
    claim = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999999\r\n\r\n"
    assert raw(server, claim).startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
    photos = [("photos", (f"{number}.png", b"x")) for number in range(41)]
    assert post(server, files=photos).status_code == 413


def test_a_bomb_is_refused_before_it_is_decoded(server: Server) -> None:
    stream = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(stream, "PNG")
    bomb = stream.getvalue()
    answer = post(server, data=bomb)
    assert answer.status_code == 422
    assert "refused before decoding" in answer.json()["predictions"][0]["error"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "image/png"),
        (b"{", "application/json"),
        (b"[" * 5000, "application/json"),
        (b'{"images": 3}', "application/json"),
        (b'{"images": [NaN]}', "application/json"),
        (b'{"images": [{"data": "%%%"}]}', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"nothing", "multipart/form-data"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--", "multipart/form-data; boundary=x"),
    ],
)
def test_a_request_that_is_nonsense_is_one_sentence(server: Server, content: bytes, kind: str) -> None:
    answer = post(server, data=content, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert "Traceback" not in answer.text


def test_no_url_is_fetched_and_no_path_opened(server: Server, paths: list[Path]) -> None:
    for data in (f"file://{paths[0]}", str(paths[0]), "http://127.0.0.1:9/x.png"):
        answer = post(server, json={"images": [{"data": data}]})
        assert answer.status_code == 400
    (found,) = post(server, files=[("photos", (str(paths[0]), b"no photo"))]).json()["predictions"]
    assert "not a photo" in found["error"]


def test_more_photos_than_it_takes_are_told_to_come_again(finished_run: Path, paths: list[Path]) -> None:
    with ftk.serve(finished_run, limits=Limits(photos=1)) as server, ThreadPoolExecutor(12) as pool:
        content = paths[0].read_bytes()
        answers = [*pool.map(lambda _: post(server, data=content), range(60))]
        busy = [answer for answer in answers if answer.status_code == 503]
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert any(answer.status_code == 200 for answer in answers)
        assert all(answer.headers["Retry-After"] == "1" for answer in busy)


def test_a_client_that_never_sends_its_photo_is_answered_in_time(finished_run: Path) -> None:
    with ftk.serve(finished_run, limits=Limits(request_s=0.2)) as server:
        name, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((name, int(port)), timeout=60) as connection:
            connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nabc")
            assert connection.recv(65536).startswith(b"HTTP/1.1 504")


def test_what_was_accepted_is_answered_before_it_ends(finished_run: Path, paths: list[Path]) -> None:
    server = ftk.serve(finished_run)
    name, port = server.url.removeprefix("http://").split(":")
    content = paths[0].read_bytes()
    head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with socket.create_connection((name, int(port)), timeout=60) as connection:
        connection.sendall(head + content[:-1])
        requests.get(server.url + "/v2/health/live", timeout=60)  # which came after it, so that it was begun
        ending = threading.Thread(target=server.stop)
        ending.start()
        connection.sendall(content[-1:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        ending.join()
    with pytest.raises(requests.ConnectionError):
        requests.get(server.url + "/", timeout=60)


# ---- counted and logged ----------------------------------------------------------------------------------------------------------


def test_it_counts_for_prometheus_and_logs_nothing_of_a_photo(
    server: Server, paths: list[Path], said: list[str]
) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    def counted() -> dict[str, float]:
        text = requests.get(server.url + "/metrics", timeout=60).text
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return {f"{s.name}{sorted(s.labels.values())}": s.value for s in samples}

    before, lines = counted(), len(said)
    post(server, files=[*form(paths[:2]), ("photos", ("secret-name.jpg", b"no photo"))])
    after = counted()
    added = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    assert added["finetunekit_photos_total['answered']"] == 2
    assert added["finetunekit_photos_total['unreadable']"] == 1
    assert added["finetunekit_requests_total['/v1/predict', '200']"] == 1
    assert added["finetunekit_confidence_count[]"] == 2
    assert sum(value for name, value in added.items() if name.startswith("finetunekit_answers_total")) == 2
    assert after["finetunekit_photos_under_way[]"] == 0
    (line,) = said[lines:]
    assert line.startswith("POST /v1/predict 200 ")
    assert "secret-name" not in line


# ---- the command line, exported models, the page -----------------------------------------------------------------------------------


def test_what_cannot_be_served_is_one_line(finished_run: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, words in (
            ([str(tmp_path / "none")], "none"),
            ([str(finished_run), "--port", str(port)], f"--port {port}: cannot listen at 127.0.0.1"),
            ([str(finished_run), "--host", "0.0.0.0"], "needs a token"),
            ([str(finished_run), "--runtime", "onnx"], "Export the run first: finetunekit export"),
        ):
            done = CliRunner().invoke(main, ["serve", *arguments])
            assert done.exit_code in (1, 2)
            assert words in done.stderr
            assert len(done.stderr.splitlines()) == 1


def test_the_command_prints_its_address_and_ends_well_when_it_is_told_to(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetunekit.serving import server as serving

    asked: list[str] = []

    def stopped(served: Served, access: Access, sock: socket.socket, **more: Any) -> None:
        asked.append(served.about.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "serve_until_stopped", stopped)
    done = CliRunner().invoke(main, ["serve", str(finished_run), "--port", "0"])
    assert (done.exit_code, asked) == (0, ["tiny"])
    assert done.stdout.startswith("http://127.0.0.1:")
    assert "Ctrl-C ends it" in done.stderr


@pytest.mark.skipif(not find_chromium(), reason="no browser")
@pytest.mark.parametrize("width_px", [1280, 390])
def test_the_page_shows_the_servers_answers(
    server: Server, paths: list[Path], expected: dict[str, dict[str, float]], width_px: int
) -> None:
    with browser() as page:
        page.go(server.url, width_px=width_px, is_dark=width_px < 600)
        page.wait_for("document.getElementById('name').textContent == 'tiny'")
        page.choose_files("#files", paths[:3])
        page.wait_for("document.querySelectorAll('.answer .label').length == 3")
        shown = page.evaluate(
            "[...document.querySelectorAll('.answer')].map(e => [...e.querySelectorAll('p')].map(p => p.textContent))"
        )
        for name, label, *_ in shown:
            best = max(expected[name], key=lambda one, name=name: expected[name][one])
            assert label == f"{best}, {100 * expected[name][best]:.1f} %"
        page.evaluate("document.querySelector('.answer button').click()")
        page.wait_for("document.querySelector('.answer .where')")
        page.evaluate(
            "(e => { e.value = 99; e.dispatchEvent(new Event('input')); })(document.getElementById('unsure'))"
        )
        assert page.evaluate("document.querySelector('.answer .label').textContent") == "unsure"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        own = (f"request to {server.url}", f"request to blob:{server.url}")
        assert [problem for problem in page.problems if not problem.startswith(own)] == []


SERVE_AND_PREDICT = """
import sys
from pathlib import Path
from urllib.request import Request, urlopen
import finetunekit as ftk
from finetunekit.cli import main
folder, *photos = sys.argv[1:]
with ftk.serve(folder) as server:
    for photo in photos[:-1]:
        print(urlopen(Request(server.url + "/v1/predict", data=Path(photo).read_bytes()), timeout=60).read().decode())
main(["predict", folder, *photos, "--json"])
"""


@pytest.mark.usefixtures("convert_here")
def test_an_exported_model_is_served_and_predicts_where_only_the_sample_requirements_are_installed(
    finished_run: Path, paths: list[Path], tmp_path: Path
) -> None:
    """Those of the Dockerfile: TensorFlow is not among them. The answers are the golden ones."""
    exported, alone, script, broken = (tmp_path / name for name in ("onnx", "alone", "ask.py", "broken.jpg"))
    broken.write_bytes(paths[0].read_bytes()[:200])
    script.write_text(SERVE_AND_PREDICT, encoding="utf-8")
    ftk.load(finished_run).export("onnx", into=exported, progress=Progress(is_quiet=True))
    lines = (ROOT / "docs" / "samples" / "serve" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    alone.mkdir()
    lay_out(alone, [Requirement(line).name for line in lines if not line.startswith("#")])
    lay_out_project(alone)
    assert not (alone / "tensorflow").exists()
    golden = json.loads((exported / "golden" / "answers.json").read_text(encoding="utf-8"))["photos"]
    photos = [str(exported / "golden" / name) for name in golden]
    done = run_alone(alone, script, str(exported), *photos, str(broken), status=2)
    assert "broken.jpg" in done.stderr.splitlines()[-1]
    *served, predicted = done.stdout.split("\n", len(golden))
    rows = json.loads(predicted)
    for line, row, answer in zip(served, rows, golden.values(), strict=True):
        (found,) = json.loads(line)["predictions"]
        assert found["label"] == row["label"] == answer["class"]
        assert found["probabilities"] == row["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-5)
    refused = CliRunner().invoke(main, ["predict", str(exported), str(paths[0]), "--coverage", "0.9"])
    assert (refused.exit_code, "gives no sets of classes" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("fitting", "window"),
    [
        ({"fit": "stretch"}, (0, 0, 1, 1)),
        ({"fit": "crop", "crop_pct": None}, (0, 0.25, 1, 0.5)),
        ({"fit": "crop", "crop_pct": 0.8}, (0.1, 0.3, 0.8, 0.4)),
        ({"fit": "pad"}, (-0.5, 0, 2, 1)),
    ],
)
def test_a_map_lies_over_what_the_network_was_shown(fitting: dict[str, Any], window: tuple[float, ...]) -> None:
    assert dataclasses.astuple(_window(100, 200, fitting)) == pytest.approx(window)
