"""What can go wrong around a run: a full disk, folders that may not be written, many processes at once, photos that vanish."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import finetunekit as ftk
from finetunekit.engine.api import resume
from finetunekit.errors import DataError, RunFolderError
from finetunekit.runs.folder import PREDICTIONS, read_status
from finetunekit.system.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
from pathlib import Path
from finetunekit.system.files import append_line, write_whole
from finetunekit.runs.checkpoint import save_checkpoint, Checkpoint
from finetunekit.errors import RunFolderError
import numpy as np
path = Path(sys.argv[1])
try:
    {what}
except RunFolderError as exc:
    print("error:", exc)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a limit of the file size is POSIX")
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("metrics.json", "write_whole(path / 'metrics.json', 'x' * 100_000)"),
        ("epochs.csv", "append_line(path / 'epochs.csv', 'y' * 100_000 + chr(10))"),
        (
            "checkpoints/000-000002.npz",
            "save_checkpoint(path, Checkpoint(0, 2, False, (), {'weights/0': np.zeros(100_000)}))",
        ),
    ],
)
def test_a_disk_that_is_full_is_one_line_and_keeps_what_was_there(tmp_path: Path, name: str, what: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("before\n")
    command = [sys.executable, "-c", LIMITED.replace("{what}", what), str(tmp_path), "20000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"error: {file}: cannot be written (")
    assert len(done.stdout.splitlines()) == 1
    assert file.read_text() == "before\n"
    assert [p.name for p in file.parent.iterdir() if p.is_file()] == [file.name]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small file system")
def test_a_run_on_a_disk_that_fills_up_stops_with_one_line_and_goes_on_when_there_is_room(
    tiny_yaml: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this root may not mount")
    try:
        (disk / "ballast").write_bytes(b"x" * 560_000)
        with pytest.raises(RunFolderError, match=r"cannot be written \(No space left on device\)|of disk for its"):
            ftk.run(str(tiny_yaml), out=disk / "runs", progress=QUIET)
        left = list((disk / "runs").glob("[!.]*"))
        (disk / "ballast").unlink()
        if left:
            assert read_status(left[0]) in ("failed", "killed")
            result = resume(left[0], progress=QUIET)
        else:
            result = ftk.run(str(tiny_yaml), out=disk / "runs", progress=QUIET)
        assert ftk.FinishedRun(result.path).state["status"] == "finished"
        whole = ftk.run(str(tiny_yaml), out=tmp_path / "runs", progress=QUIET)
        assert (whole.path / PREDICTIONS).read_bytes() == (result.path / PREDICTIONS).read_bytes()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_photo_that_vanishes_is_one_line_and_the_next_run_works(tiny_yaml: Path, photos: Path) -> None:
    plugin = tiny_yaml.parent / "vanish.py"
    victim = sorted((photos / "valid" / "red").iterdir())[0]
    content = victim.read_bytes()
    plugin.write_text(
        "from pathlib import Path\nfrom finetunekit import hookimpl, Options\n"
        "from finetunekit_builtin.gap_dense import GapDenseOptions, build_gap_dense\n"
        f"VICTIM = Path({str(victim)!r})\n"
        "def build(options, *arguments):\n    VICTIM.unlink(missing_ok=True)\n"
        "    return build_gap_dense(GapDenseOptions(units=8), *arguments)\n"
        "@hookimpl\ndef register_heads(register):\n    register('vanish', build, Options)\n"
    )
    tiny_yaml.write_text(tiny_yaml.read_text().replace("plugins: [", f"plugins: [{plugin}, "))
    out = tiny_yaml.parent / "runs"
    vanish = ["head={name: vanish}"]
    assert ftk.run(str(tiny_yaml), settings=vanish, out=out, progress=QUIET).path.is_dir()  # it was decoded before
    victim.write_bytes(content)
    with pytest.raises(
        DataError, match=r"red-0\.png: no such file"
    ) as stopped:  # known by its content, not decoded yet
        ftk.run(str(tiny_yaml), settings=vanish, out=out, progress=QUIET)
    assert len(str(stopped.value).splitlines()) == 1
    victim.write_bytes(content)
    assert ftk.run(str(tiny_yaml), out=out, progress=QUIET).path.is_dir()


def test_a_cache_that_is_spoilt_or_may_not_be_written_changes_no_bit(tiny_yaml: Path, own_cache: Path) -> None:
    out = tiny_yaml.parent / "runs"
    bank = ["cache={mode: bank, views: 2}"]
    first = ftk.run(str(tiny_yaml), settings=bank, out=out, progress=QUIET)
    for file in (own_cache / "features").glob("*/0.bin"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 0x10
        file.write_bytes(data)
    spoilt = ftk.run(str(tiny_yaml), settings=bank, out=out, progress=QUIET)
    assert (first.path / PREDICTIONS).read_bytes() == (spoilt.path / PREDICTIONS).read_bytes()
    for folder in (own_cache / "features").iterdir():
        (folder / "meta.json").unlink()  # half deleted
    lost = ftk.run(str(tiny_yaml), settings=bank, out=out, progress=QUIET)
    assert (first.path / PREDICTIONS).read_bytes() == (lost.path / PREDICTIONS).read_bytes()


@pytest.mark.slow
def test_processes_that_share_a_cold_cache_all_end_right(tmp_path: Path) -> None:
    from kill_cases import HERE

    command = [sys.executable, str(HERE / "kills.py"), "--together", "4", "--json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "FINETUNEKIT_DISABLE_PLUGINS": "all"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert len(outcomes) == 4
    assert all(outcome["differences"] == [] for outcome in outcomes)
