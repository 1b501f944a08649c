"""What of a cluster's objects may leave it in a support bundle: chosen fields, and no value that may be a secret.

Objects are built anew from fields that are known to help, so that a field nobody thought of stays where it is. What users
may write freely (podTemplate, variables, arguments, annotations) is reduced to its shape, and what was taken out there is
taken out of every text too: logs, events and messages quote it. Must never read a Secret: none is ever asked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from slm_core.engines.registry import ENGINES

from slm_operator.api import names
from slm_operator.api.owned_flags import OWNED_FLAGS, SHORT_FLAGS
from slm_operator.manifests.engine import CONTAINER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Raw = dict[str, Any]

REDACTED = "<redacted>"
SHORTEST = 6
"""Shorter values are not searched for in texts: `true` and `1` are everywhere, and no secret."""

MOST_CHARACTERS = 64 << 10
"""Of one text of an object; logs are cut where they are read."""

_FLAGS = (
    frozenset({*OWNED_FLAGS, *SHORT_FLAGS})
    .union(*(engine.harmless_flags for engine in ENGINES))
    .difference(*(engine.secret_flags for engine in ENGINES))
)
"""Flags whose values tell what an engine does and never who may use it."""
_WORDS = frozenset({"true", "false", "auto", "-m", "python", "python3"}).union(*(e.harmless_words for e in ENGINES))
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
"""Harmless where no flag stands before it: after one that is not known, it may be a key."""
_IN_SHELL = re.compile(r"""(?:=|--[\w-]{1,64}[= ])["']?([^\s"';|&)]+)""")
"""What a shell's text assigns, or gives a flag: quoted alone elsewhere, the whole text would not be found."""
_FLAG = re.compile(r"--[\w-]+")
_OURS = frozenset({names.GROUP, "deployment.kubernetes.io"})
_LABELS = ("app.kubernetes.io", "helm.sh", "nvidia.com", "kubernetes.io")
_IDENTITIES = frozenset({
    "name", "mountPath", "key", "operator", "effect", "topologyKey", "type", "image", "fieldRef", "secretKeyRef",
    "configMapKeyRef", "configMap", "secret", "projected", "downwardAPI", "persistentVolumeClaim", "emptyDir", "hostPath",
})  # fmt: skip
"""Fields that say which thing is meant: taken out with the rest, and not searched for in texts, where they are words."""
_PATTERNS = (
    # A key whose end was cut off, too. Its body has no five hyphens, so that no two beginnings look at the same text.
    # NB: no possessive repetition of alternatives: Python before 3.11.5 takes one hyphen too many (gh-106052).
    re.compile(
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:(?!-----)[\s\S]){0,8192}(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"
    ),
    re.compile(r"\bhf_[A-Za-z0-9]{16,}+"),  # Hugging Face
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),  # AWS
    re.compile(r"(?<![\w-])eyJ[\w-]{10,}+\.[\w-]{10,}+\.[\w-]*+"),  # JSON web tokens, service accounts' among them
    re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|sk-|xox[abp]-)[\w-]{16,}+"),
    re.compile(r"(?<=://)[^\s:@/]{1,256}+:\S{1,512}(?=@)"),  # user:password of an address, up to the last @
    re.compile(r"(?i)(?<=bearer )[\w.~+/=-]{8,}+"),
    re.compile(r"(?i)(?<=password=)\S++|(?<=token=)\S++|(?<=secret=)\S++|(?<=api[_-]key=)\S++"),
)
"""NB: each is linear in the text: nothing that may be long is gone over again from another beginning."""


def slm_object(raw: Raw) -> Raw:
    """An SLMDeployment or SLMProfile: its spec reduced where users write freely, its status whole."""
    spec = dict(raw.get("spec") or {})
    if "podTemplate" in spec:
        spec["podTemplate"] = shape(spec["podTemplate"])
    engine = dict(spec.get("engine") or {})
    for field in ("args", "command"):
        if field in engine:
            engine[field] = words(engine[field] or ())
    if "env" in engine:
        engine["env"] = [variable(one) for one in engine["env"] or ()]
    if engine:
        spec["engine"] = engine
    status = dict(raw.get("status") or {})
    for part in (spec, status):
        if part.get("measurements"):
            part["measurements"] = _measurements(part["measurements"])
    return {"metadata": metadata(raw), "spec": spec, "status": status}


def workload(raw: Raw) -> Raw:
    """A Deployment, ReplicaSet or Job: its pod template by chosen fields."""
    spec = raw.get("spec") or {}
    template = spec.get("template") or {}
    kept = _only(
        spec, "replicas", "strategy", "revisionHistoryLimit", "backoffLimit", "activeDeadlineSeconds", "paused"
    )
    kept_template = {
        "metadata": metadata({"metadata": template.get("metadata") or {}}),
        "spec": pod_spec(template.get("spec") or {}),
    }
    return {"metadata": metadata(raw), "spec": kept | {"template": kept_template}, "status": raw.get("status") or {}}


def pod(raw: Raw) -> Raw:
    """A pod."""
    status = raw.get("status") or {}
    kept = _only(
        status, "phase", "reason", "message", "conditions", "containerStatuses", "initContainerStatuses", "startTime"
    )
    return {"metadata": metadata(raw), "spec": pod_spec(raw.get("spec") or {}), "status": kept}


def pod_spec(spec: Mapping[str, Any]) -> Raw:
    """What a pod runs and where it may run. Of volumes: their names and kinds, not where they lead."""
    kept = _only(
        spec, "nodeName", "nodeSelector", "tolerations", "securityContext", "priorityClassName", "runtimeClassName",
        "terminationGracePeriodSeconds", "topologySpreadConstraints", "schedulerName",
    )  # fmt: skip
    for field in ("initContainers", "containers"):
        if spec.get(field):
            kept[field] = [container(one) for one in spec[field]]
    if spec.get("volumes"):
        kept["volumes"] = [shape(one) | _only(one, "name") for one in spec["volumes"]]
    return kept


def container(raw: Mapping[str, Any]) -> Raw:
    """A container."""
    kept = _only(raw, "name", "image", "resources", "securityContext")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if raw.get(probe):
            kept[probe] = _only(
                raw[probe], "periodSeconds", "timeoutSeconds", "failureThreshold", "initialDelaySeconds"
            )
    kept |= {field: words(raw[field], begun=_begins(raw, field)) for field in ("command", "args") if raw.get(field)}
    if raw.get("env"):
        kept["env"] = [variable(one) for one in raw["env"]]
    if raw.get("volumeMounts"):
        kept["volumeMounts"] = [_only(one, "name", "mountPath", "readOnly") for one in raw["volumeMounts"]]
    return kept


def variable(raw: Mapping[str, Any]) -> Raw:
    """An environment variable: its name, and where its value comes from, never the value."""
    kept = _only(raw, "name", "valueFrom")
    return kept | ({"value": REDACTED} if "value" in raw else {})


def node(raw: Raw) -> Raw:
    """A node: what planning looks at, and what a person asks first."""
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    versions = ("kubeletVersion", "kernelVersion", "osImage", "containerRuntimeVersion", "architecture")
    info = _only(status.get("nodeInfo") or {}, *versions)
    return {
        "metadata": metadata(raw),
        "spec": _only(spec, "taints", "unschedulable"),
        "status": _only(status, "allocatable", "capacity", "conditions") | {"nodeInfo": info},
    }


def event(raw: Raw) -> Raw:
    """An event (events.k8s.io/v1)."""
    kept = _only(
        raw, "type", "reason", "note", "eventTime", "deprecatedLastTimestamp", "deprecatedCount", "reportingController"
    )
    return kept | {"regarding": _only(raw.get("regarding") or {}, "kind", "namespace", "name")}


def metadata(raw: Mapping[str, Any]) -> Raw:
    """Names, times and owners; labels and annotations of others only by their keys."""
    meta = raw.get("metadata") or {}
    kept = _only(
        meta,
        "name",
        "namespace",
        "uid",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "ownerReferences",
        "finalizers",
    )
    for field, known in (("labels", _is_known_label), ("annotations", _is_known_annotation)):
        if meta.get(field):
            kept[field] = {key: value if known(key, value) else REDACTED for key, value in meta[field].items()}
    return kept


def words(said: Sequence[object], *, begun: bool = False) -> list[str]:
    """A command line: flags, numbers and the values of harmless flags; all other words are taken out.

    `begun`: its first word, where that is no flag, is the operator's own.
    """
    kept, flag = [], ""
    for at, word in enumerate(map(str, said)):
        if begun and at == 0 and not word.startswith("-"):
            kept.append(word)
        elif _is_flag(word):
            flag, equals, value = word.partition("=")
            kept.append(f"{flag}{equals}{value if _is_harmless(flag, value) else REDACTED}" if equals else flag)
        else:
            kept.append(word if _is_harmless(flag, word) else REDACTED)
    return kept


def shape(value: Any) -> Any:
    """The same keys and lengths, without any text."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return REDACTED if isinstance(value, str) else value


def taken_out(raws: Iterable[Raw]) -> list[str]:
    """Texts that the functions above take out of these objects, to be taken out of others too; the longest first.

    NB: values of labels are left out of it: they are words like `default`, and no place for a secret.
    """
    found = {text for raw in raws for text in _taken_out(raw) if len(text) >= SHORTEST}
    return sorted(found, key=lambda text: (-len(text), text))


def scrub(value: Any, secrets: Sequence[str]) -> Any:
    """A text, or every text in a value, without the given ones (the longest first) and what looks like a credential.

    NB: before it is written in any format: YAML folds lines and JSON escapes, and a folded secret is found no more.
    """
    if isinstance(value, dict):
        return {key: scrub(inner, secrets) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(inner, secrets) for inner in value]
    return _scrubbed(value, secrets) if isinstance(value, str) else value


def cut(value: Any) -> Any:
    """A value without the ends of texts that no person reads."""
    if isinstance(value, dict):
        return {key: cut(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [cut(inner) for inner in value]
    return value[:MOST_CHARACTERS] if isinstance(value, str) else value


def _scrubbed(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    for pattern in _PATTERNS:
        text = pattern.sub(REDACTED, text)
    return text


def _taken_out(raw: Raw) -> Iterator[str]:
    meta, spec = raw.get("metadata") or {}, raw.get("spec") or {}
    for owner in (meta, ((spec.get("template") or {}).get("metadata") or {})):
        annotations = (owner.get("annotations") or {}).items()
        yield from (str(value) for key, value in annotations if not _is_known_annotation(key, value))
    yield from _texts(spec.get("podTemplate") or {})
    inner = (spec.get("template") or {}).get("spec") or spec
    engines = [spec.get("engine") or {}, *(inner.get("initContainers") or ()), *(inner.get("containers") or ())]
    for one in engines:
        yield from (str(v["value"]) for v in one.get("env") or () if v.get("value") is not None)
        for field in ("command", "args"):
            yield from _words_taken_out(list(map(str, one.get(field) or ())), begun=_begins(one, field))
    for volume in inner.get("volumes") or ():
        yield from _texts({key: value for key, value in volume.items() if key != "name"})


def _words_taken_out(said: Sequence[str], *, begun: bool) -> Iterator[str]:
    for word, kept in zip(said, words(said, begun=begun), strict=True):
        if word == kept:
            continue
        secret = word.partition("=")[2] if _is_flag(word) else word
        yield secret
        yield from (found[1] for found in _IN_SHELL.finditer(secret))


def _measurements(document: Mapping[str, Any]) -> Raw:
    engine = dict(document.get("engine") or {})
    return {**document, "engine": engine | ({"args": words(engine["args"])} if engine.get("args") else {})}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _IDENTITIES:
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str) and not _FLAG.fullmatch(value):
        yield value


def _begins(one: Mapping[str, Any], field: str) -> bool:
    # NB: a replica's first argument is its model, or a flag; a model's name is in half of all other texts.
    return field == "args" and one.get("name") == CONTAINER


def _is_flag(word: str) -> bool:
    # NB: any other word with one hyphen may be a secret.
    return word.startswith("--") or word.partition("=")[0] in SHORT_FLAGS


def _is_harmless(flag: str, value: str) -> bool:
    if flag.replace("_", "-") in _FLAGS or value.lower() in _WORDS:
        return True
    return not flag and _NUMBER.fullmatch(value) is not None


def _is_known_label(key: str, _value: object) -> bool:
    prefix = key.rpartition("/")[0]
    return key == "pod-template-hash" or prefix in _OURS or any(_is_within(prefix, known) for known in _LABELS)


def _is_known_annotation(key: str, value: object) -> bool:
    prefix = key.rpartition("/")[0]
    # NB: `kubectl annotate --record` writes whole command lines there; only the operator's own sentence is kept.
    said_by_us = key == "kubernetes.io/change-cause" and str(value).startswith("advice ")
    return said_by_us or prefix in _OURS or _is_within(prefix, names.GROUP)


def _is_within(prefix: str, domain: str) -> bool:
    return prefix == domain or prefix.endswith(f".{domain}")


def _only(raw: Mapping[str, Any], *fields: str) -> Raw:
    return {field: raw[field] for field in fields if raw.get(field) is not None}
