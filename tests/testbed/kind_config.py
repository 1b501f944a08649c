"""The configuration that kind is given: the plain file, and what a test bed adds to it.

`kind-config.yaml` alone serves an ordinary Docker host. This adds the folders that tests mount and,
for a node image made on the spot, that image and the local kubelet settings.
"""

from collections.abc import Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PLAIN = ROOT / "kind-config.yaml"
LOCAL = Path(__file__).with_name("node_image") / "kind-local.yaml"


def kind_config(local_image: str | None, mounts: Mapping[Path, tuple[str, bool]]) -> str:
    """Give the YAML for `kind create cluster`.

    `local_image`: a node image made on the spot, or None for the public one that the plain file names.
    `mounts`: folder here -> (path on every node, read-only?).
    """
    config = yaml.safe_load(PLAIN.read_text())
    for node in config["nodes"]:
        for mount in node["extraMounts"]:
            mount["hostPath"] = str(ROOT / mount["hostPath"])  # kind would take it from where it is started
        node["extraMounts"] += [
            {"hostPath": str(here), "containerPath": there, "readOnly": read_only}
            for here, (there, read_only) in mounts.items()
        ]
        if local_image is not None:
            node["image"] = local_image
    if local_image is not None:
        config["kubeadmConfigPatches"] += yaml.safe_load(LOCAL.read_text())["kubeadmConfigPatches"]
    return yaml.safe_dump(config, sort_keys=False)
