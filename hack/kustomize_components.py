"""Components of kustomize: what other values of the chart change in what it renders, to be combined by whoever uses no Helm.

Each is the difference between two renderings: objects that go, objects that come, and fields that differ. Pure. Must never
hold a text of its own about an object: the chart is the only place where one is written.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Object = dict[str, Any]

SERVED = "team-a"
"""A namespace that is served; where it stands, whoever uses the component puts each of their own."""
VALUES: dict[str, dict[str, Any]] = {
    "gpu-operator": {"config": {"devicePlugin": {"namespace": "gpu-operator", "configMap": "device-plugin-configs"}}},
    "monitoring": {
        "metrics": {name: {"enabled": True} for name in ("serviceMonitor", "engines", "dashboards", "alerts", "demand")}
    },
    "namespaces-only": {"config": {"namespaces": [SERVED]}},
}
"""Values of the chart, by the component that stands for them."""


def flags(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Values as flags of helm."""
    return tuple(f"--set-json={name}={json.dumps(value)}" for name, value in values.items())


def component(
    name: str, values: Mapping[str, Any], before: Sequence[Object], after: Sequence[Object], settings: Object
) -> dict[str, str]:
    """Files of the component, and of the namespaces that it serves, by their place in config/."""
    old, new = ({_key(one): one for one in some if not is_settings(one, settings)} for some in (before, after))
    come = [one for key, one in new.items() if key not in old]
    served = [one for one in come if one["metadata"].get("namespace") == SERVED]
    own = [one for one in come if one not in served]
    patches = [_gone(one) for key, one in old.items() if key not in new]
    patches += [_changed(one, new[key]) for key, one in old.items() if key in new and new[key] != one]
    given = {} if served else dict(values.get("config", {}))
    found = {f"components/{name}/{file}": text for file, text in _files(name, own, patches, given, settings).items()}
    return found | {f"served-namespace/{file}": text for file, text in _served(served).items()}


def _files(name: str, come: list[Object], patches: list[Object], given: Object, settings: Object) -> dict[str, str]:
    kustomization: Object = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
    files: dict[str, str] = {}
    if come:
        kustomization["resources"], files["objects.yaml"] = ["objects.yaml"], dumped(*come)
    if patches:
        kustomization["patches"] = patches
    if given:
        file = f"{name}.yaml"
        kustomization["configMapGenerator"] = [settings | {"behavior": "merge", "files": [file]}]
        files[file] = dumped(given)
    return files | {"kustomization.yaml": dumped(kustomization)}


def _served(objects: list[Object]) -> dict[str, str]:
    """Files that `namespace:` of whoever uses them puts into each namespace."""
    if not objects:
        return {}
    anywhere = [one | {"metadata": {k: v for k, v in one["metadata"].items() if k != "namespace"}} for one in objects]
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": ["rights.yaml"]}
    return {"rights.yaml": dumped(*anywhere), "kustomization.yaml": dumped(head)}


def is_settings(one: Object, settings: Object) -> bool:
    """Whether an object is the ConfigMap with the operator's settings."""
    meta = one["metadata"]
    return bool(one["kind"] == "ConfigMap" and {name: meta.get(name) for name in settings} == settings)


def _key(one: Object) -> tuple[str, str, str]:
    return one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]


def _target(one: Object) -> Object:
    group, _, version = one["apiVersion"].rpartition("/")
    meta = {name: one["metadata"][name] for name in ("name", "namespace") if name in one["metadata"]}
    return {
        name: value for name, value in {"group": group, "version": version, "kind": one["kind"]}.items() if value
    } | meta


def _gone(one: Object) -> Object:
    meta = {name: one["metadata"][name] for name in ("name", "namespace") if name in one["metadata"]}
    patch = {"$patch": "delete", "apiVersion": one["apiVersion"], "kind": one["kind"], "metadata": meta}
    return {"patch": dumped(patch)}


def _changed(before: Object, after: Object) -> Object:
    return {"target": _target(before), "patch": dumped(list(_operations(before, after)))}


def _operations(before: Any, after: Any, path: str = "") -> Iterator[Object]:
    """JSON patch from one to the other. A list of another length is replaced whole."""
    match before, after:
        case dict(), dict():
            for name in before | after:
                place = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
                if name not in after:
                    yield {"op": "remove", "path": place}
                elif name not in before:
                    yield {"op": "add", "path": place, "value": after[name]}
                else:
                    yield from _operations(before[name], after[name], place)
        case list(), list() if len(before) == len(after):
            for at, (one, other) in enumerate(zip(before, after, strict=True)):
                yield from _operations(one, other, f"{path}/{at}")
        case _ if before != after:
            yield {"op": "replace", "path": path, "value": after}


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are read."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def dumped(*documents: Any) -> str:
    """YAML of these documents, in their own order."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120)
