"""The side that asks: jobs handed to a cluster, fetched back, and handed out again where a worker or a node was lost."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit import (
    ConfigError,
    FinetuneKitError,
    Job,
    Outcome,
    RunError,
    available_cpus,
    counted,
    show_bytes,
)
from finetunekit_ray import worker
from finetunekit_ray.connection import connected

if TYPE_CHECKING:
    from finetunekit_ray import RayOptions

PATIENCE_S = 40.0
"""How long runs that are told to stop may take to keep what they have."""
ANSWER_S = 5.0
NOTICE_S = 15.0
"""How long a lost helper may be noticed after the process that it helped has said so."""
_SLOWER = 10.0
"""Times as long as this machine a node may take to list the photos, of which there may be millions."""
LOOK_S = 30.0
"""How often it is looked at whether there still is a node."""
_INTERRUPTED = 130
_THREADS = "TF_NUM_INTRAOP_THREADS"
_STEERING = (
    _THREADS,
    "TF_NUM_INTEROP_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "OMP_NUM_THREADS",
    "FINETUNEKIT_DISABLE_PLUGINS",
    "FINETUNEKIT_STRICT_PLUGINS",
)
"""Environment variables that steer a run here and have to do so there."""


class RayExecutor:
    """Carries out jobs on a Ray cluster, each by an actor."""

    def __init__(self, options: RayOptions) -> None:
        """Nothing is connected to yet."""
        self._options = options

    def run(self, jobs: Iterator[Job], say: Callable[[str], None]) -> Iterator[Outcome]:
        """As many at a time as the cluster has room for."""
        with connected(self._options.address, self._options.timeout_s):
            from ray import cloudpickle

            cloudpickle.register_pickle_by_value(worker)
            yield from _Session(self._options, say).run(jobs)


@dataclass(frozen=True, slots=True)
class _Handed:
    """A job that was handed to the cluster.

    Attributes:
        job: The job.
        carrier: Of the cluster, that carries it out.
        is_shared: Whether it is carried out in its folder, which every node sees.
        deaths: How often a worker or a node of it was lost before.
        helpers: Where other processes carry it out together with it: reference to what comes of one → its carrier.
        group: Where all of them have their places; None: there is one.
        begun: References to answers that all of its processes give once they have begun.
        nodes: That were alive when it was handed out.
    """

    job: Job
    carrier: Any
    is_shared: bool
    deaths: int
    helpers: Mapping[Any, Any] = field(default_factory=dict)
    group: Any = None
    begun: Sequence[Any] = ()
    nodes: frozenset[str] = frozenset()

    def never_ran(self) -> bool:
        """Whether it was sent to a node that is dead, which the cluster did not know yet."""
        import ray

        if self.nodes <= _alive_ids(ray):
            return False
        answered, waiting = ray.wait(list(self.begun), num_returns=len(self.begun), timeout=0)
        try:
            ray.get(answered)
        except ray.exceptions.RayError:
            return True
        return bool(waiting)

    def end(self) -> None:
        """End all of its processes."""
        import ray

        for carrier in (self.carrier, *self.helpers.values()):
            ray.kill(carrier)
        if self.group is not None:
            ray.util.remove_placement_group(self.group)


@dataclass
class _Session:
    """One call's use of a cluster.

    Attributes:
        options: As the configuration gives them.
        say: Prints a line for the user.
        under_way: Reference to what comes of a job → the job.
        is_shared: Whether every node sees the storage of run folders; None: not looked at yet.
        known: Paths that were looked at → where every node sees it: None; else its outline, its digest and a reference to it, packed.
    """

    options: RayOptions
    say: Callable[[str], None]
    under_way: dict[Any, _Handed] = field(default_factory=dict)
    is_shared: bool | None = None
    known: dict[str, tuple[str, str, Any] | None] = field(default_factory=dict)
    installed: dict[str, str] = field(default_factory=dict)

    def run(self, jobs: Iterator[Job]) -> Iterator[Outcome]:
        """Fill up, wait for one to end, give it back."""
        try:
            is_more = True
            while is_more or self.under_way:
                while is_more and len(self.under_way) < self._most():
                    job = next(jobs, None)
                    is_more = job is not None
                    if job is not None:
                        self._look_for(job)
                        self._hand_out(job, is_shared=bool(self.is_shared))
                if not self.under_way:
                    return
                outcome = self._take_back(self._next_ended())
                if outcome is not None:
                    yield outcome
        finally:
            self._stop()

    # ---- before the work -------------------------------------------------------------------------------------------------------------

    def _most(self) -> int:
        """Jobs at a time: as many as have room."""
        import ray

        if self.options.workers is not None:
            return self.options.workers
        room = sum(int(node["Resources"].get("CPU", 0) // self.options.cpus_per_run) for node in _alive(ray))
        return max(1, room // self.options.processes_per_run)

    def _look_for(self, job: Job) -> None:
        """Have every node looked at for what a job needs, once for all jobs that need the same.

        Raises:
            ConfigError: With a line for each node that lacks something; all are said before any work.
        """
        reads = [str(path) for path in job.reads if str(path) not in self.known]
        is_known = self.is_shared is not None and job.requires.items() <= self.installed.items()
        if is_known and not reads:
            return
        started = time.monotonic()
        outlines = {path: worker.outline(path)[0] for path in reads}
        allowed_s = self.options.timeout_s + _SLOWER * (time.monotonic() - started)
        found = self._ask_every_node(job, outlines, allowed_s)
        problems = [f"node {one['node']} {', '.join(one['lacking'])}" for one in found if one["lacking"]]
        if problems:
            raise ConfigError([f"{problem}. Install there what is installed here." for problem in problems])
        self.installed |= job.requires
        if self.is_shared is None:
            self.is_shared = all(one["is_sharing"] for one in found)
            if not self.is_shared:
                self.say("note: run folders are not on storage that every node sees: they travel there and back")
        for path, outlined in outlines.items():
            blind = [one["node"] for one in found if path in one["unseen"]]
            self.known[path] = self._pack(path, outlined, blind) if blind else None

    def _ask_every_node(self, job: Job, outlines: Mapping[str, str], allowed_s: float) -> list[dict[str, Any]]:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ask = ray.remote(worker.look_around)
        mark = job.folder / f".{uuid.uuid4().hex}"
        mark.touch()
        try:
            references = [
                ask.options(
                    num_cpus=0,
                    max_retries=0,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
                ).remote(dict(job.requires), dict(outlines), str(mark))
                for node in self._fitting_nodes(job)
            ]
            answers: list[dict[str, Any]] = ray.get(references, timeout=allowed_s)
        except ray.exceptions.GetTimeoutError as exc:
            raise FinetuneKitError(
                f"not every node has answered within {allowed_s:.0f} s. Set executor.timeout_s higher."
            ) from exc
        except ray.exceptions.RayError as exc:
            raise FinetuneKitError(f"a node cannot be used: {_said(exc)}") from exc
        finally:
            mark.unlink(missing_ok=True)
        return answers

    def _fitting_nodes(self, job: Job) -> Sequence[Mapping[str, Any]]:
        """Nodes on which a job can be carried out.

        Raises:
            ConfigError: If none is large enough.
        """
        import ray

        nodes = self._nodes_with_room(job)
        if not nodes:
            have = [node["Resources"] for node in _alive(ray)]
            if not have:
                raise ConfigError("no node of the cluster has processors. Add one: ray start --address=HEAD:6379")
            cpus, memory = (max((int(one.get(key, 0)) for one in have), default=0) for key in ("CPU", "memory"))
            raise ConfigError(
                f"no node has room for a run: it needs {counted(self.options.cpus_per_run, 'processor')}, "
                f"{self.options.gpus_per_run:g} GPUs and {show_bytes(job.memory_bytes)}; of {counted(len(have), 'node')} "
                f"the largest offers {cpus} and {show_bytes(memory)}. Set executor.cpus_per_run lower, or add a node."
            )
        return nodes

    def _nodes_with_room(self, job: Job) -> list[Mapping[str, Any]]:
        import ray

        wanted = {"CPU": self.options.cpus_per_run, "GPU": self.options.gpus_per_run, "memory": job.memory_bytes}
        return [node for node in _alive(ray) if all(node["Resources"].get(k, 0) >= n for k, n in wanted.items())]

    def _pack(self, path: str, outlined: str, blind: Sequence[str]) -> tuple[str, str, Any]:
        """What some node does not see, as it travels: once to each node.

        Raises:
            ConfigError: If it is too large for that.
        """
        import ray

        size_bytes = worker.outline(path)[1]
        if size_bytes > self.options.carry_mb * 1_000_000:
            others = f" and {len(blind) - 1} more" if len(blind) > 1 else ""
            raise ConfigError(
                f"{path}: {show_bytes(size_bytes)} that node {blind[0]}{others} does not see, and too large to travel "
                f"(executor.carry_mb: {self.options.carry_mb}). Put it on storage that every node sees under this path."
            )
        packed = worker.pack(path)
        self.say(f"note: {path} travels to the nodes, once to each ({show_bytes(size_bytes)})")
        return outlined, hashlib.sha256(packed).hexdigest(), ray.put(packed)

    # ---- the work --------------------------------------------------------------------------------------------------------------------

    def _hand_out(self, job: Job, *, is_shared: bool, deaths: int = 0) -> None:
        import ray

        options, parts = self.options, self.options.processes_per_run if job.is_divisible else 1
        group = self._group(job, parts) if parts > 1 else None
        carriers = [self._carrier(job, group, part) for part in range(parts)]
        addresses = [carrier.address.remote() for carrier in carriers] if parts > 1 else []
        packed = [] if is_shared else [ray.put(worker.pack(str(job.folder), is_dated=True))]
        carried = {path: found for path in map(str, job.reads) if (found := self.known.get(path)) is not None}
        steering = {name: os.environ[name] for name in _STEERING if name in os.environ}
        if options.threads is not None:
            steering[_THREADS] = str(options.threads)
        threads = int(steering.get(_THREADS, available_cpus()))
        begun, nodes = [carrier.begun.remote() for carrier in carriers], _alive_ids(ray)
        given = str(job.folder), packed, job.arguments, carried, steering, threads
        first, *others = (one.carry_out.remote(*given, part, *addresses) for part, one in enumerate(carriers))
        helpers = dict(zip(others, carriers[1:], strict=True))
        self.under_way[first] = _Handed(job, carriers[0], is_shared, deaths, helpers, group, begun, nodes)

    def _group(self, job: Job, parts: int) -> Any:
        """Places for all processes of a job, had at once or not at all."""
        import ray

        place = {"CPU": self.options.cpus_per_run, "GPU": self.options.gpus_per_run, "memory": job.memory_bytes}
        return ray.util.placement_group([{key: n for key, n in place.items() if n}] * parts, strategy="SPREAD")

    def _carrier(self, job: Job, group: Any, part: int) -> Any:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        where = (
            "DEFAULT" if group is None else PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=part)
        )
        return (
            ray.remote(worker.Carrier)
            .options(
                num_cpus=self.options.cpus_per_run,
                num_gpus=self.options.gpus_per_run,
                memory=job.memory_bytes or None,
                max_concurrency=2,  # it can be told to stop
                max_restarts=0,  # counted here: Ray begins those again without end whose node has no memory
                scheduling_strategy=where,
            )
            .remote()
        )

    def _next_ended(self) -> Any:
        """Wait for a job to end, or one of its helpers to; where no node has room any more, say once that it is waited for.

        Raises:
            FinetuneKitError: If the cluster is gone.
        """
        import ray

        is_said = False
        try:
            while True:
                helped = {helper: one for one, handed in self.under_way.items() for helper in handed.helpers}
                ended, _ = ray.wait([*self.under_way, *helped], timeout=LOOK_S)
                if ended:
                    return helped.get(ended[0], ended[0])
                if not is_said and not self._nodes_with_room(next(iter(self.under_way.values())).job):
                    self.say("note: no node of the cluster has room for a run at present; waiting for one")
                    is_said = True
        except (ConnectionError, ray.exceptions.RaySystemError) as exc:
            raise FinetuneKitError(f"the Ray cluster is gone ({_said(exc)}); what was finished is kept.") from exc

    def _take_back(self, reference: Any) -> Outcome | None:
        """How a job ended; None: its process, worker or node was lost, and it was handed out again."""
        import ray

        handed = self.under_way.pop(reference)
        try:
            done = self._done(handed, reference)
        except ray.exceptions.RayTaskError as exc:  # what it was to do could not be done
            return Outcome(handed.job, RunError(f"{handed.job.label}: {_said(exc)}"))
        except ray.exceptions.RayError as exc:
            return self._begin_again(handed, exc)
        finally:
            handed.end()
        if done["exit_code"] < 0:
            return self._begin_again(handed, RunError(f"killed by signal {-done['exit_code']} on {done['node']}"))
        return self._outcome(handed, done)

    def _done(self, handed: _Handed, reference: Any) -> dict[str, Any]:
        """What came of a job; of a helper, where it is that one which has ended, or could be why the job has."""
        import ray

        is_over = bool(ray.wait([reference], timeout=0)[0])
        done: dict[str, Any] | None = ray.get(reference) if is_over else None
        if done is not None and (done["exit_code"] != RunError.exit_code or not handed.helpers):
            return done
        ended = ray.wait(list(handed.helpers), timeout=NOTICE_S)[0]
        if not ended:
            assert done is not None  # the job or a helper has ended
            return done
        helped = ray.get(ended[0])
        if done is not None and helped["exit_code"] == RunError.exit_code:  # that of both
            return done
        return {key: value for key, value in helped.items() if key != "folder"}

    def _begin_again(self, handed: _Handed, exc: Exception) -> Outcome | None:
        job, said = handed.job, _said(exc)
        if handed.never_ran():
            self._hand_out(job, is_shared=handed.is_shared, deaths=handed.deaths)
            return None
        is_memory = type(exc).__name__ == "OutOfMemoryError"
        why = "its node had no memory left" if is_memory else "its process, worker or node was lost"
        if handed.deaths >= self.options.restarts:
            times = f" {handed.deaths + 1} times" if handed.deaths else ""
            cure = " Set executor.cpus_per_run higher, so that fewer share a node." if is_memory else ""
            return Outcome(job, RunError(f"{job.label}: {why}{times} ({said}).{cure}"))
        again = "resumed" if handed.is_shared else "begun again"
        self.say(f"{job.label}: {why}; {again}")
        self._hand_out(job, is_shared=handed.is_shared, deaths=handed.deaths + 1)
        return None

    def _outcome(self, handed: _Handed, done: Mapping[str, Any]) -> Outcome:
        job, code = handed.job, done["exit_code"]
        if "folder" in done:
            _bring_home(done["folder"], job.folder)
        if code == 0:
            self.say(f"{job.label}: finished on {done['node']}")
            return Outcome(job)
        if code == _INTERRUPTED:
            return Outcome(job, RunError(f"{job.label}: its process was ended on {done['node']}; what it has is kept."))
        if not done["answer"].strip():
            self.say(f"{job.label}: {' '.join(done['progress'].split())}")
        return Outcome.of_process(job, code, done["answer"])

    def _stop(self) -> None:
        """Have what is under way keep what it has, and wait for it; what has not begun is taken back."""
        import ray

        left = dict(self.under_way)
        self.under_way.clear()
        with contextlib.suppress(
            ray.exceptions.RayError, ConnectionError
        ):  # a cluster that is gone has nothing to stop
            told = {handed.carrier.stop.remote(): reference for reference, handed in left.items()}
            heard = ray.wait(list(told), num_returns=len(told), timeout=ANSWER_S)[0] if told else []
            begun = [told[one] for one in heard]
            ended = ray.wait(begun, num_returns=len(begun), timeout=PATIENCE_S)[0] if begun else []
            for reference in ended:
                self._keep(left[reference], reference)
            for handed in left.values():
                handed.end()

    def _keep(self, handed: _Handed, reference: Any) -> None:
        """Bring home what a job has that was stopped where nothing is shared; one that was lost has nothing."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            done = ray.get(reference)
            if done.get("folder") is not None:
                _bring_home(done["folder"], handed.job.folder)


def _alive(ray: Any) -> list[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]


def _alive_ids(ray: Any) -> frozenset[str]:
    return frozenset(node["NodeID"] for node in _alive(ray))


def _bring_home(packed: bytes | None, folder: Path) -> None:
    """Put what came back in the place of what went out; nothing came back where a run was refused before it trained."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
        folder.rename(Path(scratch) / "sent")
        if packed is not None:
            Path(worker.unpack(packed, scratch)).rename(folder)


def _said(exc: BaseException) -> str:
    """The first sentence of what Ray says, which is long."""
    exc = getattr(exc, "cause", None) or exc  # what was raised on a node, without where it went through
    text = " ".join(str(exc).split()).split(". ")[0].split(" class_name:")[0]
    return f"{type(exc).__name__}: {text[:300]}" if text else type(exc).__name__
