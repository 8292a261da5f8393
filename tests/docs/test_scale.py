"""The page about clusters shows a YAML that is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

DOCS = Path(__file__).parents[2] / "docs"
CLUSTER = DOCS / "samples" / "ray" / "raycluster.yaml"


def test_the_cluster_on_the_page_is_the_file() -> None:
    page = (DOCS / "scale.md").read_text(encoding="utf-8")
    block = page.split("<!-- file: samples/ray/raycluster.yaml -->\n", 1)[1].split("```", 2)[1].split("\n", 1)[1]
    assert block == CLUSTER.read_text(encoding="utf-8")


def test_the_cluster_asks_for_a_token_shares_a_volume_and_carries_out_nothing_on_its_head() -> None:
    spec: dict[str, Any] = YAML(typ="safe").load(CLUSTER.read_text(encoding="utf-8"))["spec"]
    head, workers = spec["headGroupSpec"], spec["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    (head_container,) = head["template"]["spec"]["containers"]
    assert 10001 in [port["containerPort"] for port in head_container["ports"]]
    groups = [group["template"]["spec"] for group in (head, *workers)]
    containers = [container for group in groups for container in group["containers"]]
    assert len({container["image"] for container in containers}) == 1
    for container in containers:
        variables = {variable["name"]: variable for variable in container["env"]}
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        assert variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {
            "name": "finetunekit-ray",
            "key": "auth_token",
        }
        assert variables["FINETUNEKIT_CACHE"]["value"].startswith(container["volumeMounts"][0]["mountPath"])
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert len({str(group["volumes"]) for group in groups}) == 1
