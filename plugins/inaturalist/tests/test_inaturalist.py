"""`data fetch` against a server that answers like iNaturalist, and misbehaves like a network."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import socket
import urllib.parse
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from finetunekit_inaturalist import FetchError
from finetunekit_inaturalist.command import make_client
from finetunekit_inaturalist.fetching import fetch
from finetunekit_inaturalist.journal import JOURNAL
from finetunekit_inaturalist.responses import PHOTO_HOSTS, Taxon, photo_url, read_candidate, site_of
from finetunekit_inaturalist.results import Fetched
from finetunekit_inaturalist.spec import DEFAULT_SPEC, FetchSpec, make_spec, read_spec
from finetunekit_inaturalist.splitting import choose_split
from helpers_inaturalist import FakeClock, FakeInaturalist, jpeg, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from finetunekit import ConfigError, DataError, Progress, __version__
from finetunekit.cli import main
from finetunekit.config.planning import prepare
from finetunekit.data.listing import list_photos
from finetunekit.errors import RunFolderError
from finetunekit.system import network

CATS = {"cat": "Felis catus", "tiger": "Panthera tigris"}
FEW = {"counts": {"train": 3, "valid": 2, "test": 1}}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Time that does not pass, and an entry point as an installed distribution has it."""
    installed = metadata.entry_points
    entry = EntryPoint("inaturalist", "finetunekit_inaturalist.command:fetch", "finetunekit.fetchers")
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: (entry,) if group == entry.group else installed(group=group)
    )
    fake = FakeClock()
    monkeypatch.setattr(network, "time", fake)
    for key in [k for k in os.environ if k == "FINETUNEKIT_OFFLINE" or k.lower().endswith("_proxy")]:
        monkeypatch.delenv(key)
    return fake


def invoke(*arguments: str) -> Result:
    """The command in this process. An exception that is no deliberate error is raised."""
    result = CliRunner().invoke(main, arguments, prog_name="finetunekit")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def server() -> Iterator[FakeInaturalist]:
    with serving() as running:
        yield running


@pytest.fixture
def full(server: FakeInaturalist) -> FakeInaturalist:
    """Thirty observations each of cats and tigers by twenty people, who saw both."""
    for number in range(30):
        server.add("Felis catus", 1 + number % 20)
        server.add("Panthera tigris", 1 + number % 20)
    return server


class Fetch:
    """`fetch` into one folder, with lines that are kept."""

    def __init__(self, server: FakeInaturalist, root: Path, spec: FetchSpec | None = None) -> None:
        self.server, self.root, self.spec = server, root, spec or make_spec(CATS, FEW)
        self.lines = io.StringIO()

    def __call__(self, **changes: Any) -> Fetched:
        progress = Progress(self.lines)
        with make_client(pause_s=1, progress=progress) as client:
            for name, value in changes.items():
                setattr(client, name, value)
            return fetch(self.spec, self.root, client=client, server=self.server.api, progress=progress)

    @property
    def said(self) -> str:
        return self.lines.getvalue()

    def rows(self, name: str = "ATTRIBUTION.csv") -> list[dict[str, str]]:
        with (self.root / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def files(self) -> dict[str, bytes]:
        found = sorted((self.root / "images").rglob("*"))
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in found if path.is_file()}


def test_a_set_is_in_the_experiments_layout_and_no_observer_is_in_two_splits(
    full: FakeInaturalist, tmp_path: Path
) -> None:
    run = Fetch(full, tmp_path / "set")
    done = run()
    assert done.counts == {label: {"train": 3, "valid": 2, "test": 1} for label in CATS}
    assert (done.missing, done.passed_over) == ((), 0)
    splits = defaultdict(set)
    for row in run.rows():
        _, split, label, name = row["path"].split("/")
        splits[row["observer"]].add(split)
        content = run.files()[row["path"]]
        assert (row["sha256"], row["size_bytes"]) == (hashlib.sha256(content).hexdigest(), str(len(content)))
        assert (row["licence"], row["licence_url"]) == ("cc-by", "https://creativecommons.org/licenses/by/4.0/")
        assert row["author"] == row["observer"].replace("person", "Person ")
        assert row["observation_url"].startswith("https://www.inaturalist.org/observations/1")
        assert (name, row["width_px"], row["height_px"]) == (f"{row['photo_id']}.jpg", "160", "120")
        assert row["taxon"] == CATS[label]
    assert len(run.files()) == len(run.rows()) == 12
    assert all(len(found) == 1 for found in splits.values())
    table = run.rows("photos.csv")
    assert {(row["file_name"], row["label"], row["split"]) for row in table} == {
        (path, path.split("/")[2], path.split("/")[1]) for path in run.files()
    }


def test_what_is_fetched_can_be_trained_on(full: FakeInaturalist, tmp_path: Path) -> None:
    done = Fetch(full, tmp_path / "set")()
    plan, _ = prepare("felidae4", settings=[f"data.root={done.images}"])
    listing = list_photos(plan, Progress(io.StringIO()))
    assert (listing.stand_in, listing.notes) == (None, ())
    assert {(photo.split, photo.label) for photo in listing.photos} == {
        (split, label) for split in ("train", "valid", "test") for label in CATS
    }


def test_requests_name_the_tool_and_are_a_second_apart(full: FakeInaturalist, tmp_path: Path, clock: FakeClock) -> None:
    done = Fetch(full, tmp_path / "set")()
    assert list(full.agents.values()) == [done.requests]
    assert next(iter(full.agents)).startswith(f"finetunekit/{__version__} ")
    assert clock.time_s == pytest.approx(done.requests - 1)
    assert max(clock.waits) <= 1


def test_the_api_is_asked_for_what_the_specification_says(full: FakeInaturalist, tmp_path: Path) -> None:
    Fetch(full, tmp_path / "set", make_spec(CATS, FEW | {"licences": ["cc0", "cc-by"]}))()
    (_, taxon), (_, asked) = full.asked[0], next(a for a in full.asked if a[0] == "/v1/observations")
    assert taxon == {"q": "Felis catus", "is_active": "true", "per_page": "30"}
    assert asked == {
        "taxon_id": "118552",
        "photos": "true",
        "photo_license": "cc0,cc-by",
        "quality_grade": "research,casual",
        "id_above": "0",
        "order_by": "id",
        "order": "asc",
        "per_page": "200",
    }
    assert {path.rpartition("/")[2] for path, _ in full.asked if path.startswith("/photos/")} == {"medium.jpg"}


def test_only_observations_that_fit_are_taken(server: FakeInaturalist, tmp_path: Path) -> None:
    away = "https://elsewhere.example/photos/1/square.jpg"
    note = {"controlled_attribute_id": 22}
    wrong = [
        server.add("Felis catus", 90, photo={"license_code": "cc-by-nc"}),
        server.add("Felis catus", 91, photo={"license_code": None}),
        server.add("Felis catus", 92, photo={"hidden": True}),
        server.add("Felis catus", 93, photo={"url": away}),
        server.add("Felis catus", 94, photo={"url": f"{server.address}/photos/1/../../secret"}),
        server.add("Felis catus", 95, num_identification_disagreements=1),
        server.add("Felis catus", 96, annotations=[note | {"controlled_value_id": 26}]),
        server.add("Felis catus", 97, annotations=[{"controlled_attribute_id": 17, "controlled_value_id": 19}]),
        server.add("Felis catus", 98, user=None),
        server.add("Felis catus", 99, quality_grade="needs_id"),
    ]
    for number in range(12):
        server.add("Felis catus", number + 1, annotations=[note | {"controlled_value_id": 24}])
        server.add("Panthera tigris", number + 1)
    run = Fetch(server, tmp_path / "set")
    assert run().counts["cat"] == {"train": 3, "valid": 2, "test": 1}
    assert not set(wrong) & {int(row["photo_id"]) for row in run.rows()}
    assert not set(wrong) & set(server.photos_asked())


def test_one_observer_gives_few_photos(server: FakeInaturalist, tmp_path: Path) -> None:
    for _ in range(10):
        server.add("Felis catus", 1)
    for number in range(9):
        server.add("Felis catus", 10 + number)
        server.add("Panthera tigris", 10 + number)
    run = Fetch(
        server, tmp_path / "set", make_spec(CATS, {"counts": {"train": 4, "valid": 2, "test": 1}, "per_observer": 2})
    )
    run()
    assert sum(row["observer"] == "person1" for row in run.rows()) <= 2
    assert len(run.rows()) == 14


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("cut", "the file is truncated"),
        ("html", "is text/html, not a photo"),
        ("lies", "is not a photo but an HTML page, as servers send if there is no photo"),
        ("huge", "9000.0 MB is more than the 8.0 MB allowed"),
        ("redirect", "HTTP 302 to 'http://169.254.169.254/latest'"),
        (404, "HTTP 404"),
        (403, "HTTP 403"),
    ],
)
def test_a_photo_that_cannot_be_used_is_replaced_by_another(
    full: FakeInaturalist, tmp_path: Path, fault: Any, reason: str
) -> None:
    bad = full.observations[0]["photos"][0]["id"]
    full.faults[f"/photos/{bad}/medium.jpg"] = [fault] * 9
    run = Fetch(full, tmp_path / "set")
    done = run()
    assert f"photo {bad} skipped: {reason}" in run.said
    assert (done.passed_over, len(run.files())) == (1, 12)
    assert str(bad) not in {row["photo_id"] for row in run.rows()}
    assert full.photos_asked().count(bad) == 1  # asking again would not help


@pytest.mark.parametrize("fault", [500, 503, 408, (429, ""), "truncated"])
def test_what_may_pass_is_asked_again_with_growing_pauses(
    full: FakeInaturalist, tmp_path: Path, clock: FakeClock, fault: Any
) -> None:
    first = full.observations[0]["photos"][0]["id"]
    full.faults[f"/photos/{first}/medium.jpg"] = [fault] * 3
    run = Fetch(full, tmp_path / "set")
    assert run().passed_over == 0
    assert str(first) in {row["photo_id"] for row in run.rows()}
    bounds = [(1, 3), (2, 6), (4, 12)]  # 2, 4 and 8 s, each ± 50 %
    backoff = [float(line.split("again in ")[1].split(" s")[0]) for line in run.said.splitlines() if "again in" in line]
    assert all(low <= wait <= high for wait, (low, high) in zip(backoff, bounds, strict=True))
    assert sum(clock.waits) >= sum(low for low, _ in bounds)


def test_jitter_differs_between_clients(full: FakeInaturalist, clock: FakeClock) -> None:
    for _ in range(2):
        full.faults["/photos/7/medium.jpg"] = [500, 500]
        with make_client(pause_s=1, progress=Progress(io.StringIO())) as client:
            client.get(f"{full.address}/photos/7/medium.jpg", io.BytesIO(), max_bytes=10**6)
    waits = [wait for wait in clock.waits if wait]
    assert waits[:2] != waits[2:]


def test_retry_after_is_honoured_and_a_very_long_one_ends_the_command(
    full: FakeInaturalist, tmp_path: Path, clock: FakeClock
) -> None:
    full.faults["/v1/observations"] = [(429, "77")]
    Fetch(full, tmp_path / "set")()
    assert 77 in clock.waits
    first = full.observations[0]["photos"][0]["id"]
    full.faults[f"/photos/{first}/medium.jpg"] = [(503, "1800")]
    with pytest.raises(FetchError, match=r"asks for a pause of 1800 s \(HTTP 503\).*continues where it stopped"):
        Fetch(full, tmp_path / "closed")()
    full.faults["/v1/taxa"] = [(429, "3600")]
    with pytest.raises(FetchError, match=r"asks for a pause of 3600 s \(HTTP 429\).*continues where it stopped"):
        Fetch(full, tmp_path / "other")()


def test_an_answer_that_does_not_come_is_given_up(full: FakeInaturalist, tmp_path: Path) -> None:
    first = full.observations[0]["photos"][0]["id"]
    full.faults[f"/photos/{first}/medium.jpg"] = ["hang"] * 2
    run = Fetch(full, tmp_path / "set")
    run(read_timeout_s=0.1)
    assert "no answer within 0.1 s; again in" in run.said
    assert str(first) in {row["photo_id"] for row in run.rows()}


def test_a_photo_that_cannot_be_had_today_is_asked_for_by_the_next_call(
    server: FakeInaturalist, tmp_path: Path
) -> None:
    for number in range(6):
        server.add("Felis catus", number + 1)
        server.add("Panthera tigris", number + 1)
    first = server.observations[0]["photos"][0]["id"]
    server.faults[f"/photos/{first}/medium.jpg"] = [503] * 6
    run = Fetch(server, tmp_path / "set")
    done = run()
    assert f"photo {first} left out for now: HTTP 503" in run.said
    assert sum(done.counts["cat"].values()) == 5
    assert str(first) not in {row["photo_id"] for row in run.rows()}
    assert run().missing == ()
    assert str(first) in {row["photo_id"] for row in run.rows()}


def test_answers_of_any_shape_are_passed_over(server: FakeInaturalist, tmp_path: Path) -> None:
    for number in range(12):
        server.add("Felis catus", number + 1)
        server.add("Panthera tigris", number + 1)
    whole = server.observations[0]
    odd: list[dict[str, Any]] = [
        {},
        {"user": "me"},
        {"user": {"id": True, "login": 5}},
        {"taxon": {"id": 118552}},
        {"annotations": 7},
        {"created_at": "yesterday", "location": "nowhere"},
        {"photos": [None, {"id": "x"}, {"license_code": 3, "id": 1, "url": 9}]},
        {"photos": [{"id": 4, "license_code": "cc-by", "url": "http://[::1"}]},
    ]
    extra = [whole | {"id": 900 + i, "user": {"id": 700 + i}} | o for i, o in enumerate(odd)]
    server.observations = [
        *({k: v for k, v in o.items() if k != "created_at"} for o in extra[:2]),
        *extra[2:],
        *server.observations,
    ]
    run = Fetch(server, tmp_path / "set")
    assert run().missing == ()
    assert len(run.rows()) == 12


def test_the_same_photo_twice_is_one_photo(full: FakeInaturalist, tmp_path: Path) -> None:
    ids = [o["photos"][0]["id"] for o in full.observations]
    full.bodies[ids[0]] = full.bodies[ids[1]] = full.bodies[ids[2]] = jpeg(1)
    run = Fetch(full, tmp_path / "set")
    run()
    assert "skipped: is the same file as another photo" in run.said
    assert len({row["sha256"] for row in run.rows()}) == len(run.rows()) == 12


def test_fewer_observations_than_asked_is_said_and_an_empty_split_is_an_error(
    server: FakeInaturalist, tmp_path: Path
) -> None:
    for number in range(12):
        server.add("Felis catus", number)
        if number < 5:
            server.add("Panthera tigris", number + 50)
    done = Fetch(server, tmp_path / "set")()
    assert sum(done.counts["tiger"].values()) == 5
    assert len(done.missing) == 1
    assert done.missing[0].startswith("tiger: ")
    server.observations = [o for o in server.observations if o["taxon"]["name"] == "Felis catus"]
    with pytest.raises(FetchError, match="tiger has no train photo; tiger has no valid photo; tiger has no test photo"):
        Fetch(server, tmp_path / "empty")()


def test_an_interrupted_fetch_goes_on_and_fetches_nothing_twice(
    full: FakeInaturalist, tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Fetch(full, tmp_path / "whole")
    whole()
    full.asked.clear()
    run = Fetch(full, tmp_path / "set")
    stop_after = 5

    def interrupted(seconds: float) -> None:
        clock.time_s += seconds
        if len(full.photos_asked()) >= stop_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(clock, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    kept = run.files()
    assert 0 < len(kept) == len(run.rows()) < 12
    stop_after = 100
    run()
    assert run.files() == whole.files()
    asked = full.photos_asked()
    assert len(asked) == len(set(asked))
    before = len(full.asked)
    assert run().requests == 0
    assert len(full.asked) == before


def test_a_photo_that_was_damaged_or_lost_is_fetched_again(full: FakeInaturalist, tmp_path: Path) -> None:
    run = Fetch(full, tmp_path / "set")
    run()
    whole = run.files()
    damaged, lost = sorted(whole)[:2]
    (run.root / damaged).write_bytes(whole[damaged][:-10])
    (run.root / lost).unlink()
    run()
    assert run.files() == whole
    (run.root / lost).unlink()
    photo_id = int(Path(lost).stem)
    full.faults[f"/photos/{photo_id}/medium.jpg"] = [404]
    done = run()
    assert lost not in run.files()
    assert len(run.files()) == 12
    assert done.counts["cat"] == {"train": 3, "valid": 2, "test": 1}


def test_a_journal_cut_off_by_a_crash_goes_on(full: FakeInaturalist, tmp_path: Path) -> None:
    run = Fetch(full, tmp_path / "set")
    run()
    whole, journal = run.files(), run.root / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-25])
    run()
    assert run.files() == whole
    with journal.open("ab") as file:
        file.write(b'{"photo": {"candidate": {}}}\n')
    with pytest.raises(FetchError, match=rf"{JOURNAL}:\d+: is damaged"):
        run()


def test_a_folder_of_something_else_is_left_alone(full: FakeInaturalist, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="is not empty, and was not made by `data fetch`"):
        Fetch(full, tmp_path / "mine")()
    Fetch(full, tmp_path / "set")()
    with pytest.raises(DataError, match="was begun with another specification"):
        Fetch(full, tmp_path / "set", make_spec(CATS, FEW | {"seed": 1}))()


def test_two_processes_do_not_fetch_into_one_folder(full: FakeInaturalist, tmp_path: Path) -> None:
    import filelock

    (tmp_path / "set").mkdir()
    with (
        filelock.FileLock(tmp_path / "set" / "fetch.lock"),
        pytest.raises(RunFolderError, match="another process is fetching"),
    ):
        Fetch(full, tmp_path / "set")()


def test_photos_that_keep_failing_end_the_command_with_one_line(full: FakeInaturalist, tmp_path: Path) -> None:
    for observation in full.observations:
        full.faults[f"/photos/{observation['photos'][0]['id']}/medium.jpg"] = ["html"]
    with pytest.raises(FetchError, match="25 photos in a row cannot be used, the last one is text/html, not a photo"):
        Fetch(full, tmp_path / "set")()
    for observation in full.observations:
        full.faults[f"/photos/{observation['photos'][0]['id']}/medium.jpg"] = [503] * 6
    with pytest.raises(FetchError, match=r"HTTP 503\. Is there a network"):
        Fetch(full, tmp_path / "other")()


def test_an_api_that_answers_something_else_is_one_line(full: FakeInaturalist, tmp_path: Path) -> None:
    full.faults["/v1/taxa"] = ["html"]
    with pytest.raises(FetchError, match=r"answers with text/html that is not JSON\. Is there a login page in between"):
        Fetch(full, tmp_path / "set")()


def test_without_network_there_is_one_line_and_no_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        port = taken.getsockname()[1]
        result = invoke("data", "fetch", "--server", f"http://127.0.0.1:{port}/v1")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"error: 127.0.0.1:{port}: connection refused. Is there a network? Run the same command again: it continues where"
        " it stopped."
    )
    assert "again in" not in result.stderr
    monkeypatch.setenv("FINETUNEKIT_OFFLINE", "1")
    offline = invoke("data", "fetch")
    assert offline.stderr == "error: data fetch: FINETUNEKIT_OFFLINE is set, so nothing is fetched. Unset it first.\n"


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://host/v1", "api.inaturalist.org/v1", "http://me:pw@host/v1"]
)
def test_a_server_is_http_or_https(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("data", "fetch", "--server", address)
    assert result.exit_code == 2
    assert "error: --server: not an http or https URL" in result.stderr
    assert not list(tmp_path.iterdir())


def test_an_unknown_taxon_and_overlapping_classes_are_said(full: FakeInaturalist, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"classes.cat.taxon: .*no taxon 'Felis cattus'. Did you mean 'Felis catus'\?"
    ):
        Fetch(full, tmp_path / "a", make_spec(CATS | {"cat": "Felis cattus"}))()
    with pytest.raises(ConfigError, match=r"classes 'tiger' \(Panthera tigris\) and 'big' \(Panthera\) overlap"):
        Fetch(full, tmp_path / "b", make_spec(CATS | {"big": "Panthera"}))()


def test_the_shipped_specification_is_the_experiments() -> None:
    spec = read_spec()
    assert (spec.counts.train, spec.counts.valid, spec.counts.test) == (150, 50, 40)
    assert {label: of.taxon for label, of in spec.classes.items()} == {
        "cat": "Felis catus",
        "lion": "Panthera leo",
        "lynx": "Lynx",
        "tiger": "Panthera tigris",
    }
    assert all("casual" in of.quality for of in spec.classes.values())  # house cats have no other grade
    assert not any("nc" in licence for licence in spec.licences)


def test_a_mistaken_specification_says_where(tmp_path: Path) -> None:
    text = DEFAULT_SPEC.read_text(encoding="utf-8")
    path = tmp_path / "birds.yaml"
    path.write_text(text.replace("size: medium", "size: enormous").replace("seed: 0", "sead: 0"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_spec(path)
    found = sorted(caught.value.problems)
    assert found[0].startswith(f"{path}:")
    assert "unknown option. Did you mean 'seed'?" in "".join(found)
    assert "size: should be 'small', 'medium' or 'large'" in "".join(found)
    with pytest.raises(ConfigError, match=r"'\.\./up' cannot be the name of a folder"):
        make_spec(CATS | {"../up": "Lynx"})
    with pytest.raises(ConfigError, match="differ in more than case"):
        make_spec(CATS | {"Cat": "Lynx"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--taxon", "cat"], "--taxon cat: not of the form CLASS=SCIENTIFIC NAME"),
        (["--taxon", "cat=A b", "--taxon", "cat=C d"], "class 'cat' is named twice"),
        (["--licence", "cc-buy"], "licences[0]: should be 'cc0'"),
        (["some.yaml", "--taxon", "cat=A b"], "both name classes"),
        (["--pause", "0.1"], "0.1 is not in the range"),
    ],
)
def test_a_mistaken_command_is_one_line(arguments: list[str], message: str) -> None:
    result = invoke("data", "fetch", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_command_from_beginning_to_end(
    full: FakeInaturalist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["data", "fetch", "--taxon", "cat=Felis catus", "--taxon", "tiger=Panthera tigris", "--per-class", "3"]
    result = invoke(*command, "--out", "cats", "--server", full.api)
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        0,
        "10 photos to fetch; one request in 1 s, so at least 10 s",
    )
    assert result.stdout.startswith("cat: 3 train, 1 valid, 1 test\n")
    assert "  finetunekit run felidae4 --set data.root=cats/images" in result.stdout
    again = invoke(*command, "--out", "cats", "--server", full.api, "--json")
    found = json.loads(again.stdout)
    assert (found["requests"], found["counts"]["cat"]) == (0, {"train": 3, "valid": 1, "test": 1})
    with Image.open(next(Path("cats/images/train/cat").iterdir())) as photo:
        assert photo.size == (160, 120)
    planned = invoke("data", "fetch", "--plan", "--licence", "cc-by-nc", "--licence", "cc0")
    assert "- cc-by-nc\n- cc0\n" in planned.stdout


def test_an_observer_keeps_a_split_and_new_ones_are_spread_as_needed() -> None:
    needed = {"train": 150, "valid": 50, "test": 40}
    chosen = [choose_split(observer, needed, seed=0, bound=()) for observer in range(2400)]
    counts = {split: chosen.count(split) for split in needed}
    assert counts == pytest.approx({"train": 1500, "valid": 500, "test": 400}, rel=0.15)
    assert chosen == [choose_split(observer, needed, seed=0, bound=()) for observer in range(2400)]
    assert chosen != [choose_split(observer, needed, seed=1, bound=()) for observer in range(2400)]
    assert choose_split(5, needed, seed=0, bound={"test"}) == "test"
    assert choose_split(5, needed | {"test": 0}, seed=0, bound={"test"}) is None
    assert choose_split(5, needed, seed=0, bound={"test", "train"}) is None
    assert choose_split(6, {"train": 0, "valid": 0, "test": 1}, seed=0, bound=()) == "test"
    assert choose_split(6, dict.fromkeys(needed, 0), seed=0, bound=()) is None


def test_visitors_of_one_zoo_are_in_one_split(server: FakeInaturalist, tmp_path: Path) -> None:
    """The same tiger is photographed by many people, a few hundred metres apart."""
    zoo = [server.add("Panthera tigris", 100 + n, location=f"52.{500 + n % 3},13.{300 + n % 5}") for n in range(12)]
    wild = [server.add("Panthera tigris", 200 + n, location="52.5,13.3", captive=False) for n in range(6)]
    for number in range(12):
        server.add("Felis catus", number + 1)
        server.add("Panthera tigris", 300 + number)
    run = Fetch(server, tmp_path / "set")
    assert run().missing == ()
    split_of = {int(row["photo_id"]): row["path"].split("/")[1] for row in run.rows()}
    assert len({split_of[photo] for photo in zoo if photo in split_of}) == 1
    assert len({split_of[photo] for photo in wild if photo in split_of}) > 1
    before = run.files()
    (run.root / next(iter(before))).unlink()
    run()  # places are known again after a restart
    assert run.files() == before


@pytest.mark.parametrize(
    ("found", "site"),
    [
        ({"captive": True, "location": "52.51,13.34"}, (2625, 667)),
        ({"captive": True, "location": "-0.01,-0.01"}, (-1, -1)),
        ({"captive": False, "location": "52.51,13.34"}, None),
        ({"captive": True, "location": "52.51,13.34", "obscured": True}, None),
        ({"captive": True, "location": "nowhere"}, None),
        ({"captive": True, "location": "nan,1.0"}, None),
        ({"captive": True, "location": "1e999,1.0"}, None),
        ({"captive": True, "location": [52.51, 13.34]}, None),
        ({"captive": True}, None),
    ],
)
def test_a_place_is_a_cell_of_the_map(found: dict[str, Any], site: tuple[int, int] | None) -> None:
    assert site_of(found) == site


def test_no_file_is_written_outside_the_folder(full: FakeInaturalist, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    before = {name: os.environ.get(name) for name in ("HOME", "XDG_DATA_HOME")}
    os.environ |= {"HOME": str(home), "XDG_DATA_HOME": str(home / "data")}
    try:
        Fetch(full, tmp_path / "set")()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "set"]
    assert list(home.iterdir()) == []


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    "id", "user", "taxon", "photos", "annotations", "quality_grade", "captive", "location", "obscured",
    "num_identification_disagreements",
)  # fmt: skip
RIGHT = {
    "id": 5,
    "user": {"id": 7, "login": "me"},
    "taxon": {"id": 118552, "name": "Felis catus"},
    "quality_grade": "casual",
    "photos": [
        {
            "id": 9,
            "license_code": "cc0",
            "url": "https://static.inaturalist.org/photos/9/square.jpeg?5",
            "hidden": False,
        }
    ],
}


@settings(max_examples=80, deadline=None, database=None)
@given(
    odd=st.dictionaries(st.sampled_from(KEYS), ANY, max_size=4), odd_photo=st.dictionaries(st.text(max_size=12), ANY)
)
def test_no_answer_breaks_the_reading_of_it(odd: dict[str, Any], odd_photo: dict[str, Any]) -> None:
    """Whatever the API says, a candidate has an allowed licence and lies on a host that is asked."""
    spec, cats = read_spec(), Taxon(118552, "Felis catus", "species", frozenset({118552}), 1)
    found = {**RIGHT, "photos": [odd_photo, *RIGHT["photos"]], **odd}  # type: ignore[misc]
    candidate = read_candidate(found, cats, spec.classes["cat"], spec, server="https://api.inaturalist.org/v1")
    if candidate is not None:
        assert candidate.licence in spec.licences
        assert urllib.parse.urlsplit(candidate.url).netloc in PHOTO_HOSTS


def test_a_right_answer_is_read(tmp_path: Path) -> None:
    spec, cats = read_spec(), Taxon(118552, "Felis catus", "species", frozenset({118552}), 1)
    found = read_candidate(RIGHT, cats, spec.classes["cat"], spec, server="https://api.inaturalist.org/v1")
    assert found is not None
    assert (found.author, found.licence, found.site) == ("me", "cc0", None)
    assert found.url == "https://static.inaturalist.org/photos/9/medium.jpeg?5"


@pytest.mark.parametrize(
    "url",
    [
        "http://static.inaturalist.org/photos/1/square.jpg",  # not encrypted
        "https://static.inaturalist.org.evil.example/photos/1/square.jpg",
        "https://me@static.inaturalist.org/photos/1/square.jpg",
        "https://static.inaturalist.org:8443/photos/1/square.jpg",
        "https://169.254.169.254/photos/1/square.jpg",
        "file:///photos/1/square.jpg",
        "https://static.inaturalist.org/photos/1/square.svg",
        "https://static.inaturalist.org/photos/1/squarejpg",
        "",
    ],
)
def test_photos_are_asked_for_on_inaturalists_hosts_only(url: str) -> None:
    assert photo_url(url, "medium", server="https://api.inaturalist.org/v1") == ""
