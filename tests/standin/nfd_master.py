"""node-feature-discovery's master: what NodeFeature objects say becomes labels of the nodes, about a second later.

The labels of a node are those of its NodeFeature and no others: when that goes, they go, all of them. Which are meant stands in an
annotation. Upstream: node-feature-discovery v0.19.0. It must never touch a label that the annotation does not name.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from .api import Api

NODE_FEATURES = "/apis/nfd.k8s-sigs.io/v1alpha1/nodefeatures"
NODE_NAME_LABEL = "nfd.node.kubernetes.io/node-name"
ANNOTATION = "nfd.node.kubernetes.io/feature-labels"
LAG_S = 1.0

log = logging.getLogger(__name__)


def patch(labels: Mapping[str, str], named: str) -> dict[str, Any]:
    """The merge patch that gives a node these labels, and takes those that its annotation names besides."""
    gone = dict.fromkeys(set(filter(None, named.split(","))) - set(labels))
    return {"metadata": {"labels": {**gone, **labels}, "annotations": {ANNOTATION: ",".join(sorted(labels)) or None}}}


def features_by_node(objects: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """The labels that NodeFeatures ask for, by node."""
    found: dict[str, dict[str, str]] = {}
    for one in objects.values():
        node = (one["metadata"].get("labels") or {}).get(NODE_NAME_LABEL)
        if node:
            found.setdefault(node, {}).update(one["spec"].get("labels") or {})
    return found


def changed(snapshots: Iterator[dict[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each node whose labels differ from what was asked for before, and its labels now: none once its NodeFeature is gone."""
    before: dict[str, dict[str, str]] = {}
    for objects in snapshots:
        now = features_by_node(objects)
        for node in sorted(now.keys() | before.keys()):
            if now.get(node) != before.get(node):
                yield node, now.get(node, {})
        before = now


def main() -> None:
    """Label the cluster's nodes."""
    api = Api.from_env()
    for node, labels in changed(api.follow(NODE_FEATURES)):
        time.sleep(LAG_S)
        path = f"/api/v1/nodes/{node}"
        try:
            named = (api.get(path)["metadata"].get("annotations") or {}).get(ANNOTATION, "")
            api.write("PATCH", path, patch(labels, named))
        except OSError as error:
            log.warning("node %s is not labelled: %s", node, error)
        else:
            log.info("node %s has %d labels", node, len(labels))
