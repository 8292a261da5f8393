"""Parameters and multiply-adds of every network of plugins/keras_applications at its native size, counted on its graph.

python benchmarks/backbone_costs.py            write plugins/keras_applications/.../costs.tsv anew; ten minutes on two cores
python benchmarks/backbone_costs.py resnet50   count some, and keep the others' lines
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from finetunekit_keras_applications.catalogue import ENTRIES
from finetunekit_keras_applications.networks import Network, build_application

from finetunekit.models.flops import count_uses, not_counted, total_multiply_adds

TARGET = Path(__file__).parents[1] / "plugins/keras_applications/finetunekit_keras_applications/costs.tsv"
HEAD = """\
# Name, parameters without top, multiply-adds of one photo at native size (convolutions and dense layers).
# Written by benchmarks/backbone_costs.py.
"""


def count(network: Network) -> tuple[int, int]:
    """Parameters and multiply-adds of one network.

    Raises:
        SystemExit: If a layer cannot be counted.
    """
    import keras

    keras.backend.clear_session()
    model = build_application(network, network.native_size_px).model
    uses = count_uses(model)
    if missing := not_counted(uses):
        raise SystemExit(f"{network.name}: cannot count {missing[0]}")
    return model.count_params(), total_multiply_adds(uses)


def read() -> dict[str, str]:
    """Lines of the file as it is, by name."""
    if not TARGET.is_file():
        return {}
    return {line.split("\t")[0]: line for line in TARGET.read_text("utf-8").splitlines() if not line.startswith("#")}


def main() -> None:
    """Count the networks named on the command line, or all."""
    lines, asked = read(), sys.argv[1:]
    for network in (entry.network for entry in ENTRIES):
        if network.name in asked or (not asked):
            start = time.monotonic()
            parameters, multiply_adds = count(network)
            lines[network.name] = f"{network.name}\t{parameters}\t{multiply_adds}"
            print(f"{lines[network.name]}\t{time.monotonic() - start:.1f} s", flush=True)
            TARGET.write_text(HEAD + "\n".join(lines[name] for name in sorted(lines)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
