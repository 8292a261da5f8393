"""The fine-tuning step of a network of depthwise convolutions: where its time goes, and what each way to shorten it gains, in one run.

    python benchmarks/bench_finetune.py [--preset best] [--set a.b=VALUE ...] [--batch 16] [--rounds 8] [--profile]
        [--clock cpu] [--peers-python PYTHON]

Every contestant trains the same network from random weights and random input, one step after the other in turns, so that a busy machine
slows all alike. The first is the step as TensorFlow computes it: the last six blocks of the network, from pixels. Then, one on top of the
other: frozen BatchNorm folded into the convolutions before it (`folded_norms`), depthwise kernels frozen, fewer blocks from features kept
at the cut. Photos per second leave out decoding, augmentation, the making of features and validation. The last two lines are forward
passes, as for features and answers, without folding and with it.

--peers-python names the interpreter of an environment with torch and timm (see bench_peers.py) and adds a plain PyTorch loop: the same
layers of EfficientNet-Lite0, from pixels and from features, in PyTorch's own layout of tensors and in its channels-last one. Each of ours
is then divided by the faster of the two loops that train the same layers from pixels, which is what a loop does that keeps no features, and
by the faster of those that keep them.

--clock cpu counts the CPU time of a step rather than what a clock on the wall says; use it on a machine where others work too, with the
bench held to one CPU (`taskset -c 0`), so that no thread waits for another.

--profile prints how a step's time divides among kinds of operations, summed over threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from common import BENCHMARKS, describe_machine, new_parser, show_spread

from finetunekit.config.planning import prepare
from finetunekit.system.environment import start_tensorflow
from finetunekit.system.progress import Progress

CLASSES = 10
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to train.

    Attributes:
        blocks: How many train, counted from the output.
        depthwise: Whether depthwise kernels train.
        folded: Whether frozen BatchNorm is folded.
        is_cut: Whether a step begins with kept features rather than with pixels.
    """

    blocks: int
    depthwise: bool
    folded: bool
    is_cut: bool

    @property
    def name(self) -> str:
        """For the table."""
        parts = [f"{self.blocks} blocks from {'features' if self.is_cut else 'pixels'}"]
        parts += ["BatchNorm folded"] if self.folded else []
        parts += [] if self.depthwise else ["depthwise frozen"]
        return ", ".join(parts)

    def loop_name(self, layout: str) -> str:
        """The PyTorch loop that trains the same."""
        frozen = "" if self.depthwise else ", depthwise frozen"
        return f"PyTorch{layout}, {self.blocks} blocks from {'features' if self.is_cut else 'pixels'}{frozen}"


CONTESTANTS = (
    Contestant(6, depthwise=True, folded=False, is_cut=False),
    Contestant(6, depthwise=True, folded=True, is_cut=False),
    Contestant(6, depthwise=False, folded=True, is_cut=False),
    Contestant(3, depthwise=True, folded=False, is_cut=True),
    Contestant(3, depthwise=True, folded=True, is_cut=True),
    Contestant(3, depthwise=False, folded=True, is_cut=True),
    Contestant(2, depthwise=False, folded=True, is_cut=True),
)
#: What the PyTorch loop trains: what ours trains, from pixels as plain loops do, and once from features.
LOOPS = (
    Contestant(6, depthwise=True, folded=False, is_cut=False),
    Contestant(6, depthwise=False, folded=False, is_cut=False),
    Contestant(3, depthwise=True, folded=False, is_cut=False),
    Contestant(3, depthwise=False, folded=False, is_cut=False),
    Contestant(3, depthwise=False, folded=False, is_cut=True),
)
LAYOUTS = ("", " channels-last")


def build_step(contestant: Contestant, asked: argparse.Namespace) -> Callable[[], object]:
    """One step of a contestant, its graph built."""
    import keras

    from finetunekit.models.classifier import build_classifier
    from finetunekit.models.conv_gradient import fast_gradients
    from finetunekit.models.folded_norm import folded_norms
    from finetunekit.models.freezing import freeze_layers
    from finetunekit.models.frozen_prefix import find_cut

    freeze = f"{{name: last_blocks, n: {contestant.blocks}, depthwise: {str(contestant.depthwise).lower()}}}"
    settings = [*asked.settings, f"stages=[{{epochs: 1, freeze: {freeze}}}]"]
    plan, _ = prepare(asked.preset, settings=settings, progress=Progress())
    classifier = build_classifier(plan.network, CLASSES, "float32")
    freeze_layers(classifier, plan.stages[0])
    cut = find_cut(classifier.logits) if contestant.is_cut else None
    model = cut.suffix if cut else classifier.logits
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-5, momentum=0.9, global_clipnorm=1.0), loss)
    generator = np.random.default_rng(0)
    x = [np.abs(generator.normal(size=(asked.batch, *t.shape[1:]))).astype(np.float32) for t in model.inputs]
    y = np.eye(CLASSES, dtype=np.float32)[np.arange(asked.batch) % CLASSES]
    inputs = x if len(x) > 1 else x[0]
    with fast_gradients(model), folded_norms(model) if contestant.folded else nullcontext():
        model.train_on_batch(inputs, y)
    return lambda: model.train_on_batch(inputs, y)


def forward_steps(asked: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """A forward pass of the network, without folding and with it."""
    import tensorflow as tf

    from finetunekit.models.classifier import build_classifier
    from finetunekit.models.folded_norm import trace_forward

    plan, _ = prepare(asked.preset, settings=asked.settings, progress=Progress())
    model = build_classifier(plan.network, CLASSES, "float32").logits
    x = tf.random.normal((asked.batch, *model.inputs[0].shape[1:]))
    plain = tf.function(lambda x: model(x, training=False)).get_concrete_function(x)
    folded = trace_forward(model, tf.TensorSpec(x.shape, tf.float32))
    return {"forward": lambda: plain(x).numpy(), "forward, BatchNorm folded": lambda: folded(x).numpy()}


@contextmanager
def pytorch_loops(asked: argparse.Namespace) -> Iterator[dict[str, Callable[[], float]]]:
    """Seconds of a step of a plain PyTorch loop in a process of its own, which waits while others take theirs."""
    command = [asked.peers_python, BENCHMARKS / "plain_finetune.py", "--batch", str(asked.batch)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield {
            contestant.loop_name(layout): partial(_ask, process, contestant, bool(layout), asked.clock)
            for contestant in LOOPS
            for layout in LAYOUTS
        }
        process.communicate()


def _ask(process: subprocess.Popen[str], contestant: Contestant, channels_last: bool, clock: str) -> float:
    asked = {"blocks": contestant.blocks, "depthwise": contestant.depthwise, "is_cut": contestant.is_cut}
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({**asked, "channels_last": channels_last}) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError("the PyTorch loop ended; its message is above")
    return float(json.loads(answer)[clock])


def show_beside_loops(found: Mapping[str, list[float]]) -> Iterator[str]:
    """Each of ours beside the loops that train the same layers, in the layout that is faster."""
    yield "\nbeside a PyTorch loop that trains the same layers, in its faster layout:"
    for contestant in CONTESTANTS:
        ours = statistics.median(found[contestant.name])
        for start, is_cut in (("pixels", False), ("features", True)):
            plain = Contestant(contestant.blocks, contestant.depthwise, folded=False, is_cut=is_cut)
            loops = [found[name] for name in map(plain.loop_name, LAYOUTS) if name in found]
            if loops and contestant.is_cut >= is_cut:
                yield f"  {contestant.name:62} from {start:8} {ours / max(map(statistics.median, loops)):.2f} x"


def timed(step: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of a step."""
    started = clock()
    step()
    return clock() - started


def rates(seconds: Mapping[str, Callable[[], float]], rounds: int, batch: int) -> dict[str, list[float]]:
    """Photos per second of each, in turns, a round unmeasured."""
    found: dict[str, list[float]] = {name: [] for name in seconds}
    for number in range(rounds + 1):
        for name, take in seconds.items():
            taken = take()
            if number:
                found[name].append(batch / taken)
    return found


def kinds_of_operations(step: Callable[[], object], repeats: int = 3) -> Counter[str]:
    """Milliseconds of each kind of operation in a step, summed over threads."""
    import tensorflow as tf

    times: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="bench-finetune-") as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(repeats):
            step()
        tf.profiler.experimental.stop()
        for path in Path(folder).rglob("*.xplane.pb"):
            for name, seconds in _operations(path.read_bytes()):
                times[name] += seconds * 1e3 / repeats
    return times


def _operations(trace: bytes) -> Iterator[tuple[str, float]]:
    """Kind and seconds of every operation of a profiler's trace."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(trace)
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if name and "::" not in name + ":" + kind:
                    yield kind, event.duration_ps / 1e12


def show_profile(name: str, times: Counter[str]) -> None:
    """The kinds that take most."""
    print(f"\n{name}: ms a step, summed over threads")
    for kind, spent in times.most_common(12):
        print(f"  {spent:8.1f}  {kind}")


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--preset", default="best")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="a.b=VALUE")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument("--peers-python", metavar="PYTHON", help="interpreter with torch and timm; adds a PyTorch loop")
    asked = parser.parse_args()
    print(describe_machine(), flush=True)
    start_tensorflow()
    steps = {contestant.name: build_step(contestant, asked) for contestant in CONTESTANTS}
    forward = forward_steps(asked)
    with pytorch_loops(asked) if asked.peers_python else nullcontext({}) as loops:
        clock = CLOCKS[asked.clock]
        seconds, passes = (
            {name: partial(timed, step, clock) for name, step in some.items()} for some in (steps, forward)
        )
        found = rates({**seconds, **loops, **passes}, asked.rounds, asked.batch)
    for name, values in found.items():
        first = found["forward" if name in forward else CONTESTANTS[0].name]
        ratio = statistics.median(values) / statistics.median(first)
        print(f"  {name:62} {show_spread(values, 0):>20} photos/s   {ratio:.2f} x", flush=True)
    if asked.peers_python:
        print(*show_beside_loops(found), sep="\n")
    if asked.profile:
        for contestant in (CONTESTANTS[0], CONTESTANTS[5]):
            show_profile(contestant.name, kinds_of_operations(steps[contestant.name]))


if __name__ == "__main__":
    main()
