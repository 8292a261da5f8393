"""Executors: the same run folders wherever runs are carried out, whatever is killed on the way; and what they may not do."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import TINY, write_photos
from kill_cases import differences

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.config.executor_choice import executor_settings, without_executor
from finetunekit.config.planning import prepare
from finetunekit.engine.jobs import carry_out
from finetunekit.errors import ConfigError, FinetuneKitError, PluginError, RunError, error_of
from finetunekit.runs.folder import FORMAT, WAITING, FinishedRun, read_status
from finetunekit.runs.folder import SEEDS as SEEDS_FILE
from finetunekit.runs.reproducibility import compare_bits
from finetunekit.system.files import work_in
from finetunekit.system.progress import Progress
from finetunekit.testing import tiny_job
from finetunekit.testing.contract import choose
from finetunekit.types import Job, Outcome

QUIET = Progress(is_quiet=True)


def job(folder: Path, ending: tiny_job.Ending = "finish") -> Job:
    made = tiny_job.make_folder(folder, ending, FORMAT)
    arguments = ("-P", "-m", "finetunekit.testing.tiny_job")
    return Job(made, folder.name, arguments, lambda: tiny_job.carry_out(made))


def carried(run: Callable[..., Any], *jobs: Job) -> list[Outcome]:
    """By an executor whose `run` this is."""
    build = type("Executor", (), {"run": lambda self, jobs, say: run(jobs)})
    return list(carry_out(choose("executor", lambda options: build(), None), iter(jobs), QUIET))


# ---- what is asked ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "texts"),
    [
        (None, ()),
        ("processes", ('executor.name="processes"',)),
        ("ray://head:10001", ('executor.name="ray"', 'executor.address="ray://head:10001"')),
    ],
)
def test_on_names_an_executor_or_its_address(on: str | None, texts: tuple[str, ...]) -> None:
    assert executor_settings(on) == texts
    assert without_executor(("seed=1", *texts, "executors=1")) == ("seed=1", "executors=1")


def test_on_goes_over_the_preset_and_keeps_the_options_of_an_executor_of_that_name(tiny_yaml: Path) -> None:
    tiny_yaml.write_text(f"{tiny_yaml.read_text()}\nexecutor: {{name: processes, workers: 3}}\n")
    for on, name, workers in ((None, "processes", 3), ("processes", "processes", 3), ("local", "local", None)):
        executor = prepare(tiny_yaml, settings=executor_settings(on))[0].executor
        assert (executor.name, getattr(executor.options, "workers", None)) == (name, workers)
    threads = prepare(tiny_yaml, settings=(*executor_settings("processes"), "executor.threads=2"))[0].executor
    assert threads.options.model_dump() == {"workers": 3, "threads": 2, "processes_per_run": 1, "restarts": 2}
    with pytest.raises(ConfigError, match=r"executor: unknown executor 'procesess'\. Did you mean 'processes'\?"):
        ftk.run(tiny_yaml, on="procesess", progress=QUIET)
    with pytest.raises(ConfigError, match=r"--set executor\.address: unknown option"):
        ftk.run(tiny_yaml, on="processes://here", progress=QUIET)


# ---- what an executor may not do -------------------------------------------------------------------------------------------------


def lose_one(jobs: Iterator[Job]) -> Iterator[Outcome]:
    first, _ = jobs
    first.here()
    yield Outcome(first)


def stop_early(jobs: Iterator[Job]) -> Iterator[Outcome]:
    first = next(jobs)
    first.here()
    yield Outcome(first)


def say_finished(jobs: Iterator[Job]) -> Iterator[Outcome]:
    yield from (Outcome(job) for job in jobs)


def give_back_twice(jobs: Iterator[Job]) -> Iterator[Outcome]:
    for job in jobs:
        job.here()
        yield Outcome(job)
        yield Outcome(job)


def fail(jobs: Iterator[Job]) -> Iterator[Outcome]:
    yield from (1 / 0 for _ in jobs)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lose_one, r"stopped before its work was done; not given back: second\."),
        (stop_early, r"stopped before its work was done; not given back: none\."),
        (say_finished, r"gives back first as finished, which is 'waiting'"),
        (give_back_twice, r"gives back first, which is not under way"),
        (fail, r"executor '<lambda>' of plugin 'test_executors' .* failed: ZeroDivisionError"),
        (lambda jobs: iter(["done"]), r"must give back Outcome\. Received: 'done'"),
        (lambda jobs: None, r"failed: TypeError"),
    ],
)
def test_what_an_executor_may_not_do_is_blamed_on_it(run: Callable[..., Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=words):
        carried(run, job(tmp_path / "first"), job(tmp_path / "second"))


def test_what_a_run_or_its_making_raises_is_not_blamed_on_the_executor(tmp_path: Path) -> None:
    def run_here(jobs: Iterator[Job]) -> Iterator[Outcome]:
        for one in jobs:
            one.here()
            yield Outcome(one)

    broken = Job(tmp_path, "broken", (), [].pop)
    with pytest.raises(IndexError):
        carried(run_here, broken)

    def unmakeable() -> Iterator[Job]:
        yield job(tmp_path / "first")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        carried(run_here, *unmakeable())
    (failed,) = carried(lambda jobs: (Outcome(one, RunError("no")) for one in jobs), job(tmp_path / "other"))
    assert str(failed.error) == "no"


@pytest.mark.parametrize("kind", [FinetuneKitError, ConfigError, PluginError, RunError, ftk.ExportError])
def test_an_error_of_another_process_is_the_error_that_it_was(kind: type[FinetuneKitError], tmp_path: Path) -> None:
    error = error_of(kind.exit_code, "one\ntwo")
    assert (type(error), str(error)) == (kind, "one\ntwo")
    silent = Outcome.of_process(job(tmp_path / "seed 5"), kind.exit_code, "").error
    assert str(silent) == f"seed 5: its process ended with {kind.exit_code}."


# ---- processes -------------------------------------------------------------------------------------------------------------------


def processes(**options: Any) -> Any:
    from finetunekit_builtin.executors import ProcessesOptions, build_processes

    return choose("executor", build_processes, ProcessesOptions(**options))


def test_a_process_that_is_killed_again_and_again_is_given_up(tmp_path: Path) -> None:
    said: list[str] = []
    progress = Progress()
    progress.say = said.append  # type: ignore[method-assign]
    dying = job(tmp_path / "seed 5", "die once")
    (outcome,) = carry_out(processes(restarts=0), iter([dying]), progress)
    assert str(outcome.error) == (
        "seed 5: its process was killed by SIGKILL. Memory may be short: let fewer run at a time."
    )
    (outcome,) = carry_out(processes(restarts=1), iter([dying]), progress)  # its folder knows that it died once
    assert outcome.error is None
    other = job(tmp_path / "seed 6", "die once")
    (outcome,) = carry_out(processes(restarts=1), iter([other]), progress)
    assert (outcome.error, tiny_job.attempts(other.folder)) == (None, 2)
    assert said == ["seed 6: its process was killed by SIGKILL; resumed"]


def test_fewer_run_at_a_time_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetunekit.system import memory

    said: list[str] = []
    progress = Progress()
    progress.say = said.append  # type: ignore[method-assign]
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: 5 << 30)
    under_way: list[int] = []

    def jobs() -> Iterator[Job]:
        for number in range(4):
            under_way.append(number - len(ended))
            made = tiny_job.make_folder(tmp_path / str(number), "finish", FORMAT)
            yield Job(made, "x", ("-P", "-m", "finetunekit.testing.tiny_job"), lambda: None, memory_bytes=2 << 30)

    ended: list[Outcome] = []
    for outcome in carry_out(processes(workers=4), jobs(), progress):
        ended.append(outcome)
    assert max(under_way) == 1
    assert said == ["note: 2 at a time, not 4: 5.4 GB of memory are free, and a run may need 2.1 GB"]


def test_the_process_of_a_run_answers_with_its_error_on_stdout_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "finetunekit.engine.carry_out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "no run there (no config.yaml)" in done.stdout


# ---- runs ------------------------------------------------------------------------------------------------------------------------


def test_a_run_in_a_process_of_its_own_has_the_bits_of_one_that_was_here(
    finished_run: Path, tmp_path: Path, own_cache: Path
) -> None:
    settings = tuple(FinishedRun(finished_run).state["settings"])
    preset = finished_run.parents[1] / "tiny.yaml"
    said: list[str] = []
    progress = Progress()
    progress.say = said.append  # type: ignore[method-assign]
    there = ftk.run(preset, settings=settings, on="processes", out=tmp_path / "runs", progress=progress)
    assert list(differences(finished_run, there.path)) == []
    assert f"tiny: saved {there.path / 'model.npz'}; its scores, baselines and report follow" in said
    state = FinishedRun(there.path).state
    assert "resumed" not in state
    assert state["settings"] == list(settings)
    environments = [FinishedRun(path).environment for path in (finished_run, there.path)]
    for environment in environments:
        environment.pop("command")  # type: ignore[attr-defined]
    assert environments[0] == environments[1]


def test_a_run_that_nobody_has_begun_waits_and_is_begun_as_a_new_one(tiny_yaml: Path, own_cache: Path) -> None:
    from finetunekit.engine.jobs import new_job

    plan, _ = prepare(tiny_yaml, settings=["reports=[]"])
    waiting = new_job(plan, ("seed=0",), tiny_yaml.parent / "runs", label="tiny", progress=QUIET)
    assert read_status(waiting.folder) == WAITING
    assert waiting.reads == (tiny_yaml.parent / "photos",)
    assert waiting.requires == {"finetunekit": ftk.__version__}
    (tiny_yaml.parent / "photos").rename(tiny_yaml.parent / "away")
    with pytest.raises(ftk.DataError):
        waiting.here()
    assert not waiting.folder.exists()  # as one that was refused before it trained


def test_photos_that_lie_elsewhere_are_read_there_and_noted_where_they_were_asked_for(
    tiny_yaml: Path, own_cache: Path
) -> None:
    from finetunekit.engine.api import take_up
    from finetunekit.engine.jobs import new_job

    settings = ("reports=[]", "stages[0].epochs=1", "data.root=photos")
    with contextlib.chdir(tiny_yaml.parent):
        plan, _ = prepare(tiny_yaml, settings=settings)
        job = new_job(plan, settings, Path("runs"), label="tiny", progress=QUIET)
    asked = tiny_yaml.parent / "photos"
    here = asked.rename(tiny_yaml.parent / "elsewhere")
    run = FinishedRun(take_up(job.folder, is_forced=False, progress=QUIET, trust=False, places={asked: here}).path)
    assert run.config["data"]["root"] == "photos"
    assert run.state["photo_root"] == str(asked)
    assert str(here) not in "".join((run.path / name).read_text() for name in ("config.yaml", "plan.json", "run.json"))


#: It loses what it is given first, and carries out what it is given again.
LOSING = """
from finetunekit import Options, Outcome, RunError, hookimpl
class LosingOptions(Options):
    words: str = "none"
class Losing:
    def __init__(self, options):
        self.words = options.words
    def run(self, jobs, say):
        for job in jobs:
            lost = job.folder / "lost"
            say(f"{self.words}: {'again' if lost.exists() else 'first'}")
            if lost.exists():
                job.here()
                yield Outcome(job)
            else:
                lost.touch()
                yield Outcome(job, RunError("it was lost"))
@hookimpl
def register_executors(register):
    register("losing", Losing, LosingOptions)
"""


def test_a_run_is_resumed_where_it_was_started_or_where_it_is_told(tiny_yaml: Path, own_cache: Path) -> None:
    folder = tiny_yaml.parent
    (folder / "losing.py").write_text(LOSING)
    text = tiny_yaml.read_text().replace("plugins: [", "plugins: [losing.py, ").replace("epochs: 2", "epochs: 1")
    tiny_yaml.write_text(text + "reports: []\n")
    given = ["tiny.yaml", "--on", "losing", "--set", "executor.words=as it was told"]
    lost = invoke(folder, "run", *given, "--out", "one")
    assert (lost.exit_code, "it was lost" in lost.stderr) == (4, True), lost.output
    (path,) = (folder / "one").iterdir()
    assert FinishedRun(path).state["executor"] == {"name": "losing", "words": "as it was told"}
    assert "executor" not in FinishedRun(path).config
    done = invoke(folder, "resume", str(path))
    assert (done.exit_code, "as it was told: again" in done.stderr) == (0, True), done.output
    assert invoke(folder, "run", *given, "--out", "other").exit_code == 4
    (other,) = (folder / "other").iterdir()
    refused = invoke(folder, "resume", str(other), "--on", "losing", "--devices", "1")
    assert (refused.exit_code, "--devices: are of this process" in refused.output) == (2, True)
    done = invoke(folder, "resume", str(other), "--on", "local")
    assert (done.exit_code, "as it was told" in done.stderr) == (0, False), done.output
    assert list(differences(path, other)) == []


#: Once in its life, after the first epoch of the second seed, it does what it is told.
AT_SEED_6 = """
import os, signal
from pathlib import Path
from finetunekit import hookimpl
@hookimpl
def after_epoch(row, run_path):
    mark = Path(__file__).with_suffix(".done")
    if "seed-6" in run_path.name and not mark.exists():
        mark.touch()
        {what}
"""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds, one after the other in this process; beside them the preset, whose plugin file does nothing yet."""
    folder = tmp_path_factory.mktemp("executors")
    write_photos(folder / "photos")
    (folder / "at.py").write_text(AT_SEED_6.format(what="pass"))
    text = TINY.replace("ROOT", "photos").replace("plugins: [", "plugins: [at.py, ")
    (folder / "tiny.yaml").write_text(text)
    return folder / invoke(folder, *SEEDS, "--out", "reference").stdout.splitlines()[-1]


SEEDS = ("run", "tiny.yaml", "--seeds", "3", "--seed", "5", "--set", "save.seeds=all")


def invoke(folder: Path, *arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def assert_same(reference: Path, other: Path) -> None:
    """Seed by seed, and what they say together."""
    for seed in (5, 6, 7):
        first, second = (next(path.glob(f"tiny-seed-{seed}-*")) for path in (reference, other))
        assert list(differences(first, second)) == []
    whole, scores = (json.loads((path / SEEDS_FILE).read_text()) for path in (reference, other))
    assert [scores[key] == whole[key] for key in ("seeds", "runs", "over_seeds", "over_photos")] == [True] * 4


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_bits_of_the_loop_also_when_one_is_killed(
    reference: Path, workers: int
) -> None:
    folder = reference.parents[1]
    (folder / "at.py").write_text(AT_SEED_6.format(what="os.kill(os.getpid(), signal.SIGKILL)"))
    (folder / "at.done").unlink(missing_ok=True)
    done = invoke(
        folder, *SEEDS, "--on", "processes", "--set", f"executor.workers={workers}", "--out", f"with{workers}"
    )
    assert done.exit_code == 0, done.output
    assert "seed 6: its process was killed by SIGKILL; resumed" in done.stderr.splitlines()
    other = folder / done.stdout.splitlines()[-1]
    assert_same(reference, other)
    (second,) = other.glob("tiny-seed-6-*")
    assert len(FinishedRun(second).state["resumed"]) == 1


@pytest.mark.slow
def test_when_the_driver_is_interrupted_its_processes_stop_and_resume_goes_on_to_the_same_bits(reference: Path) -> None:
    folder = reference.parents[1]
    (folder / "at.py").write_text(AT_SEED_6.format(what="os.kill(os.getppid(), signal.SIGINT)"))
    (folder / "at.done").unlink(missing_ok=True)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = invoke(folder, *SEEDS, "--on", "processes", "--set", "executor.workers=2", "--out", "stopped")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert done.exit_code == 130, done.output
    (group,) = (folder / "stopped").iterdir()
    statuses = {read_status(path) for path in group.glob("tiny-seed-*")}
    assert statuses <= {"interrupted", "finished", WAITING}  # waiting: it was stopped before it had begun
    assert "interrupted" in statuses
    assert json.loads((group / SEEDS_FILE).read_text())["executor"]["workers"] == 2
    resumed = invoke(folder, "resume", str(group), "--on", "local")
    assert resumed.exit_code == 0, resumed.output
    assert_same(reference, group)


def test_a_refusal_is_heard_although_the_run_folder_that_it_was_started_in_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")

    @work_in(str(tmp_path))
    def refuse() -> None:
        (tmp_path / "run").rmdir()
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        refuse()


# ---- several processes for one run -----------------------------------------------------------------------------------------------

PART = """
import os, pathlib, signal, socket, sys
number, _, addresses = sys.argv[-1].removeprefix("--together=").partition("@")
places = [(host, int(port)) for host, _, port in (a.partition(":") for a in addresses.split(","))]
begun = pathlib.Path("begun")
if number == "1":
    with socket.create_server(places[1]) as server:
        if server.accept()[0].recv(1):
            HELPER
    sys.stdin.read()
while True:  # until the helper listens
    try:
        other = socket.create_connection(places[1])
        break
    except OSError:
        pass
if not begun.exists():
    begun.touch()
    other.sendall(b"x")
    if "HELPER" != "pass":
        other.recv(1)  # the helper has ended, or will in a moment
    FIRST
"""


@pytest.mark.parametrize(
    ("helper", "first", "error", "said"),
    [
        ("pass", "sys.exit()", None, []),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "signal.pause()",
            None,
            ["its process was killed by SIGKILL; resumed"],
        ),
        ("print('no photos here'); sys.exit(2)", "signal.pause()", "no photos here", []),
        ("print('no photos here'); sys.exit(2)", "print('lost'); sys.exit(4)", "no photos here", []),
        ("print('lost'); sys.exit(4)", "print('not finite'); sys.exit(4)", "not finite", []),
        ("sys.exit(70)", "print('no batch'); sys.exit(2)", "no batch", []),
    ],
)
def test_processes_that_share_a_run_hear_of_each_other_and_end_together(
    helper: str, first: str, error: str | None, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetunekit_builtin.executors import ProcessesOptions, build_processes, processes

    monkeypatch.setattr(processes, "NOTICE_S", 0.0 if "pause" in first else 60.0)

    text = PART.replace("HELPER", helper).replace("FIRST", first)
    shared = Job(tmp_path, "shared", ("-c", text), lambda: None, is_divisible=True)
    heard: list[str] = []
    (outcome,) = build_processes(ProcessesOptions(processes_per_run=2)).run(iter([shared]), heard.append)
    assert (outcome.error and str(outcome.error)) == error
    assert [line.removeprefix("shared: ") for line in heard if "at a time" not in line] == said


STOP = AT_SEED_6.replace('"seed-6" in run_path.name and ', "").format(what="os.kill(os.getppid(), signal.SIGINT)")


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tiny_yaml: Path) -> None:
    solved_first = (
        "[{kind: solve, name: head}, {name: tune, epochs: 2, cross_fit: 3, optimizer: {learning_rate: 0.01}}]"
    )
    settings = ["head={name: linear}", "augment=[]", f"stages={solved_first}", "executor.processes_per_run=2"]
    (tiny_yaml.parent / "at.py").write_text(STOP)
    runs = []
    for on, given, out in (("local", settings[:-1], "alone"), ("processes", settings, "two")):
        result = ftk.run(tiny_yaml, on=on, settings=given, out=tiny_yaml.parent / out, progress=QUIET)
        runs.append(FinishedRun(result.path))
    tiny_yaml.write_text(tiny_yaml.read_text().replace("plugins: [", "plugins: [at.py, "))
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            ftk.run(tiny_yaml, on="processes", settings=settings, out=tiny_yaml.parent / "stopped", progress=QUIET)
    finally:
        signal.signal(signal.SIGINT, handler)
    (stopped,) = (tiny_yaml.parent / "stopped").iterdir()
    assert read_status(stopped) == "interrupted"
    assert invoke(tiny_yaml.parent, "resume", str(stopped)).exit_code == 0
    runs.append(FinishedRun(stopped))
    for run in runs[1:]:
        assert run.environment["training_devices"] == "process 1 CPU:0, process 2 CPU:0"
        assert len(run.epochs) == len(runs[0].epochs)
        assert compare_bits(runs[0], run).largest < 1e-6
    assert compare_bits(runs[1], runs[2]).largest == 0.0
    assert len(runs[2].state["resumed"]) == 1
