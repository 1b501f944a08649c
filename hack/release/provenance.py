"""Where a release comes from, as an in-toto statement with SLSA's predicate. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hack.release.parameters import Parameters

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://slm-operator.io/release/v1"


def predicate(
    parameters: Parameters, version: str, commit: str, lock_sha256: str, stale: Mapping[str, str]
) -> dict[str, Any]:
    """How it was built, from what, and by whom. Records that were stale when it was are named."""
    name, _, base = parameters.base.partition("@sha256:")
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "version": version,
                "platforms": list(parameters.platforms),
                "python": parameters.base,
                "releases": parameters.releases,
            },
            "internalParameters": {"staleRecords": dict(stale)},
            "resolvedDependencies": [
                {"uri": "git+https://slm-operator.io", "digest": {"gitCommit": commit}},
                {"uri": f"docker://{name}", "digest": {"sha256": base}},
                {"uri": "file:uv.lock", "digest": {"sha256": lock_sha256}},
            ],
        },
        "runDetails": {"builder": {"id": parameters.builder}},
    }


def statement(subjects: Mapping[str, str], made: dict[str, Any]) -> dict[str, Any]:
    """The whole statement. `subjects`: sha256 by name."""
    named = [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects.items()]
    return {"_type": STATEMENT, "subject": named, "predicateType": PREDICATE, "predicate": made}
