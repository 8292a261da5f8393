"""Real clusters of two nodes on this machine: the bits of the loop, whatever is killed on the way. Ray starts for many seconds."""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

ray = pytest.importorskip("ray")

import finetunekit_ray
from finetunekit_ray import RayOptions, build_ray, worker
from ray.cluster_utils import Cluster

from finetunekit import FinishedRun, Job
from finetunekit.cli import main
from finetunekit.runs.folder import FORMAT
from finetunekit.runs.reproducibility import BitComparison, compare_bits
from finetunekit.testing import check_executor, tiny_job, tiny_photos, tiny_plugin

pytestmark = [
    pytest.mark.slow,
    # Ray's own, of processes and files that it leaves to their end
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
TINY_JOB = ("-P", "-m", "finetunekit.testing.tiny_job")
SEEDS = ("run", "tiny.yaml", "--seeds", "3", "--seed", "5", "--set", "save.seeds=all")
#: The executor's own file counts where it is not installed.
IS_INSTALLED = any(one.name == "ray" for one in importlib.metadata.entry_points(group="finetunekit"))
PLUGINS = [tiny_plugin.__file__, *([] if IS_INSTALLED else [finetunekit_ray.__file__])]
PRESET = f"""
name: tiny
plugins: {json.dumps(["at.py", *PLUGINS])}
data: {{source: testing_table, root: photos}}
pixels: {{size_px: 8}}
backbone: {{name: testing_tiny}}
weights: {{mode: random}}
head: {{name: testing_linear}}
train: {{batch_size: 6}}
insights: {{baselines: false, gradcam_photos: 0}}
stages: [{{epochs: 2, freeze: {{name: testing_first_block}}, optimizer: {{learning_rate: 0.05}}}}]
reports: [{{name: confusion_matrix}}]
"""
#: Once in its life, after the first epoch of the second seed, it does what it is told.
AT_SEED_6 = """
import json, os, signal, time
from pathlib import Path
from finetunekit import hookimpl
@hookimpl
def after_epoch(row, run_path):
    mark = Path({folder!r}) / "done"
    if json.loads((run_path / "run.json").read_text())["seed"] == 6:
        if not mark.exists():
            mark.touch()
            {what}
def wait():
    while True:  # for the end, which is a matter of moments
        time.sleep(0.01)
"""
KILL_WORKER = "os.kill(os.getppid(), signal.SIGKILL); wait()"
KILL_NODE = "[os.kill(pid, signal.SIGKILL) for pid in (int(os.environ['RAY_RAYLET_PID']), os.getppid(), os.getpid())]"


ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no node can import it


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that carries out nothing, and two nodes; a node that is gone is missed within seconds."""
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        made.add_node(num_cpus=2)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    tiny_photos(folder / "photos")
    (folder / "tiny.yaml").write_text(PRESET, encoding="utf-8")
    return folder


def write_plugin(folder: Path, what: str) -> None:
    (folder / "done").unlink(missing_ok=True)
    (folder / "at.py").write_text(AT_SEED_6.format(folder=str(folder), what=what), encoding="utf-8")


def invoke(folder: Path, *arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Path:
    """The seeds one after the other in this process."""
    write_plugin(folder, "pass")
    return folder / invoke(folder, *SEEDS, "--out", "reference").stdout.splitlines()[-1]


def on_ray(cluster: Cluster, folder: Path, out: str, **options: Any) -> tuple[Path, list[str]]:
    """The seeds on a cluster: their folder, and what was said."""
    given = {"address": cluster.address, "cpus_per_run": 2, **options}
    settings = [part for key, value in given.items() for part in ("--set", f"executor.{key}={json.dumps(value)}")]
    done = invoke(folder, *SEEDS, "--on", "ray", *settings, "--out", out)
    assert done.exit_code == 0, done.output
    assert "(raylet)" not in done.output
    return folder / done.stdout.splitlines()[-1], done.stderr.splitlines()


def assert_same(reference: Path, other: Path) -> None:
    for seed in (5, 6, 7):
        first, second = (next(path.glob(f"tiny-seed-{seed}-*")) for path in (reference, other))
        assert compare_bits(FinishedRun(first), FinishedRun(second)) == BitComparison(True, None, 0.0, ())
        files = [{str(file.relative_to(path)) for file in path.rglob("*")} for path in (first, second)]
        assert files[0] == files[1]
        assert FinishedRun(second).state["photo_root"] == FinishedRun(first).state["photo_root"]
    whole, scores = (json.loads((path / "seeds.json").read_text()) for path in (reference, other))
    assert [scores[key] == whole[key] for key in ("seeds", "runs", "over_seeds", "over_photos")] == [True] * 4


def seed_6(group: Path) -> FinishedRun:
    (path,) = group.glob("tiny-seed-6-*")
    return FinishedRun(path)


def test_it_keeps_the_contract_of_executors(cluster: Cluster) -> None:
    check_executor(build_ray, RayOptions(address=cluster.address, cpus_per_run=1))


def check_contract_in_a_process(options: str) -> None:
    """Ray decides once in a process how it is to authenticate."""
    program = f"""
from finetunekit_ray import RayOptions, build_ray
from finetunekit.testing import check_executor
check_executor(build_ray, RayOptions(cpus_per_run=1, timeout_s=120, {options}))
"""
    path = os.pathsep.join(map(str, (Path(finetunekit_ray.__file__).parents[1], os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_it_keeps_the_contract_on_a_ray_of_this_machines_own_which_asks_for_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    check_contract_in_a_process("")
    assert (tmp_path / ".ray" / "auth_token").is_file()


@pytest.fixture
def client_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A head as `ray start` makes it, which asks for a token and takes clients."""
    (tmp_path / "token").write_text(secrets.token_hex(32))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        head, client = one.getsockname()[1], other.getsockname()[1]
    options = (f"--port={head}", f"--ray-client-server-port={client}", "--num-cpus=2", "--include-dashboard=false")
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        assert any("--block" in line for line in process.stdout)  # its last words before it waits
        yield f"ray://127.0.0.1:{client}"
        process.terminate()  # SIGINT is ignored where the tests are a shell's job in the background
        process.stdout.read()


def test_it_keeps_the_contract_as_a_client_of_a_head_that_asks_for_a_token(client_address: str) -> None:
    check_contract_in_a_process(f"address={client_address!r}")


def test_a_worker_that_is_killed_costs_an_epoch_at_most(cluster: Cluster, folder: Path, reference: Path) -> None:
    write_plugin(folder, KILL_WORKER)
    group, said = on_ray(cluster, folder, "worker")
    assert "seed 6: its process, worker or node was lost; resumed" in said
    assert_same(reference, group)
    assert len(seed_6(group).state["resumed"]) == 1


def test_a_node_that_is_killed_costs_an_epoch_at_most(cluster: Cluster, folder: Path, reference: Path) -> None:
    write_plugin(folder, KILL_NODE)
    group, said = on_ray(cluster, folder, "node", restarts=1)  # sent to the dead node once more, it is not lost again
    assert "seed 6: its process, worker or node was lost; resumed" in said
    assert_same(reference, group)
    assert len(seed_6(group).state["resumed"]) == 1
    cluster.add_node(num_cpus=2)


KILL_HELPER = """
            import sys
            words = "--together=1@" + sys.argv[-1].partition("@")[2]
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                if words in file.read_text().split(chr(0)):
                    os.kill(int(file.parent.name), signal.SIGKILL)
            wait()
"""


@pytest.mark.parametrize("what", [KILL_WORKER, KILL_HELPER])
def test_processes_that_train_one_network_together_give_its_bits_but_for_rounding(
    what: str, cluster: Cluster, folder: Path, reference: Path
) -> None:
    write_plugin(folder, what.strip())
    given = {"address": cluster.address, "cpus_per_run": 2, "processes_per_run": 2}
    settings = [part for key, value in given.items() for part in ("--set", f"executor.{key}={json.dumps(value)}")]
    out = f"together-{what == KILL_WORKER}"
    done = invoke(folder, "run", "tiny.yaml", "--seed", "6", "--on", "ray", *settings, "--out", out)
    assert done.exit_code == 0, done.output
    assert "tiny: its process, worker or node was lost; resumed" in done.stderr
    (path,) = (folder / out).iterdir()
    run = FinishedRun(path)
    assert len(run.state["resumed"]) == 1
    assert run.environment["training_devices"] == "process 1 CPU:0, process 2 CPU:0"
    assert compare_bits(seed_6(reference), run).largest < 1e-6


def test_processes_that_train_one_network_together_do_so_again_after_the_driver_was_interrupted(
    cluster: Cluster, folder: Path, reference: Path
) -> None:
    write_plugin(folder, f"os.kill({os.getpid()}, signal.SIGINT); wait()")
    given = {"address": cluster.address, "cpus_per_run": 2, "processes_per_run": 2}
    settings = [part for key, value in given.items() for part in ("--set", f"executor.{key}={json.dumps(value)}")]
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = invoke(folder, "run", "tiny.yaml", "--seed", "6", "--on", "ray", *settings, "--out", "together-stopped")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert done.exit_code == 130, done.output
    (path,) = (folder / "together-stopped").iterdir()
    resumed = invoke(folder, "resume", str(path))
    assert resumed.exit_code == 0, resumed.output
    run = FinishedRun(path)
    assert len(run.state["resumed"]) == 1
    assert run.environment["training_devices"] == "process 1 CPU:0, process 2 CPU:0"
    assert compare_bits(seed_6(reference), run).largest < 1e-6


def blind_outline(path: str, real: Any = worker.outline) -> tuple[str, int]:
    """On a node, what lies outside of what it keeps itself is not seen."""
    found: tuple[str, int] = ("nothing", 0) if "RAY_RAYLET_PID" in os.environ else real(path)
    return found


def share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = worker.look_around
    monkeypatch.setattr(worker, "outline", blind_outline)
    monkeypatch.setattr(worker, "look_around", lambda *asked: {**real(*asked), "is_sharing": False})


def test_where_nothing_is_shared_folders_and_photos_travel_and_a_lost_run_begins_again(
    cluster: Cluster, folder: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(folder, KILL_WORKER)
    share_nothing(monkeypatch)
    group, said = on_ray(cluster, folder, "copied")
    assert "note: run folders are not on storage that every node sees: they travel there and back" in said
    assert [line for line in said if line.startswith(f"note: {folder / 'photos'} travels to the nodes, once to each (")]
    assert "seed 6: its process, worker or node was lost; begun again" in said
    assert_same(reference, group)
    assert "resumed" not in seed_6(group).state
    openings = list((folder / "state/openings").glob("*.jsonl"))
    assert all(str(group) in path.read_text() for path in openings)

    given = {"address": cluster.address, "carry_mb": 0}
    settings = [part for key, value in given.items() for part in ("--set", f"executor.{key}={json.dumps(value)}")]
    refused = invoke(folder, *SEEDS, "--on", "ray", *settings, "--out", "refused")
    assert refused.exit_code == 2
    assert f"error: {folder / 'photos'}: " in refused.stderr
    assert "Put it on storage that every node sees under this path." in refused.stderr
    assert not list((folder / "refused").iterdir())


def test_what_a_node_lacks_or_has_no_room_for_is_said_before_any_work(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(folder, "pass")
    settings = ("--set", f"executor.address={cluster.address}")
    large = invoke(folder, *SEEDS, "--on", "ray", *settings, "--set", "executor.cpus_per_run=64", "--out", "large")
    assert large.exit_code == 2
    assert "error: no node has room for a run: it needs 64 processors, " in large.stderr
    real = worker.look_around
    monkeypatch.setattr(
        worker, "look_around", lambda requires, *more: real({**requires, "finetunekit-x": "1.0"}, *more)
    )
    lacking = invoke(folder, *SEEDS, "--on", "ray", *settings, "--out", "lacking")
    assert lacking.exit_code == 2
    assert "lacks finetunekit-x 1.0. Install there what is installed here." in lacking.stderr


def test_shards_are_made_on_nodes_to_the_bytes_of_one_process_although_a_node_is_killed(
    cluster: Cluster, folder: Path
) -> None:
    pytest.importorskip("pyarrow")
    for number in range(22):
        shutil.copytree(folder / "photos", folder / "many" / str(number))
    mark = folder / "died"
    dies = f"import os, signal\nfrom pathlib import Path\nmark = Path({str(mark)!r})\n"
    dies += f"if 'RAY_RAYLET_PID' in os.environ and not mark.exists():\n    mark.touch()\n    {KILL_NODE}\n"
    (folder / "dies.py").write_text(dies, encoding="utf-8")  # once, in the first process on any node that loads it
    asked = ["features", "many", "--unlabelled", "--backbone", "testing_tiny", "--shard-photos", "256"]
    plugins = [str(folder / "dies.py"), *PLUGINS]
    for text in (f"plugins={json.dumps(plugins)}", "weights.mode=random", "pixels.size_px=8"):
        asked += ["--set", text]
    assert invoke(folder, *asked, "--out", "here").exit_code == 0
    options = ("--on", "ray", "--set", f"executor.address={cluster.address}", "--set", "executor.cpus_per_run=1")
    done = invoke(folder, *asked, "--out", "there", *options)
    assert done.exit_code == 0, done.output
    assert mark.exists()
    assert "its process, worker or node was lost; resumed" in done.stderr
    files = [
        {f.relative_to(folder / out): f.read_bytes() for f in (folder / out).rglob("*.[pj]*")}
        for out in ("here", "there")
    ]
    assert files[0] == files[1]
    assert len(files[0]) >= 4
    cluster.add_node(num_cpus=2)


@pytest.mark.parametrize("is_shared", [True, False])
def test_when_the_driver_is_interrupted_runs_stop_and_resume_goes_on_to_the_same_bits(
    is_shared: bool, cluster: Cluster, folder: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_shared:
        share_nothing(monkeypatch)
    write_plugin(folder, f"os.kill({os.getpid()}, signal.SIGINT); wait()")
    settings = ("--set", f"executor.address={cluster.address}")
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = invoke(folder, *SEEDS, "--on", "ray", *settings, "--out", f"stopped-{is_shared}")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert done.exit_code == 130, done.output
    (group,) = (folder / f"stopped-{is_shared}").iterdir()
    assert seed_6(group).state["status"] == "interrupted"  # what it has came home
    resumed = invoke(folder, "resume", str(group))
    assert resumed.exit_code == 0, resumed.output
    assert_same(reference, group)
    assert sys.modules["ray"].is_initialized() is False


def test_a_run_whose_node_has_no_memory_left_is_given_up_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray is told that hardly any memory may be used, so that it kills what runs; nodes are not asked, which it would kill too."""
    node = {"node": "here", "lacking": [], "unseen": [], "is_sharing": True}
    monkeypatch.setattr("finetunekit_ray.driver._Session._ask_every_node", lambda *_: [node])
    greedy = {"memory_usage_threshold": 0.01, "memory_monitor_refresh_ms": 100}
    head = {"num_cpus": 2, "include_dashboard": False, "_system_config": greedy}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        said: list[str] = []
        job = Job(tiny_job.make_folder(tmp_path / "1", "wait", FORMAT), "seed 5", TINY_JOB, lambda: None)
        options = RayOptions(address=made.address, restarts=1)
        (outcome,) = build_ray(options).run(iter([job]), said.append)
        assert said == ["seed 5: its node had no memory left; resumed"]
        words = "seed 5: its node had no memory left 2 times (OutOfMemoryError: "
        assert str(outcome.error).startswith(words)
        assert str(outcome.error).endswith("Set executor.cpus_per_run higher, so that fewer share a node.")
    finally:
        made.shutdown()
