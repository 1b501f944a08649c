"""How the runtime comes into an engine's image: an init container of another image copies a zipapp into an emptyDir.

For what measures and for what serves, so that both run in the very image that was asked for.
"""

from __future__ import annotations

from typing import Any

from slm_operator.manifests.engine import container_security
from slm_operator.manifests.overlay import RUNTIME_CONTAINER

RUNTIME_FOLDER = "/slm"
RUNTIME = f"{RUNTIME_FOLDER}/slm_runtime.pyz"
VOLUME = "runtime"
RUNTIME_MOUNT = {"name": VOLUME, "mountPath": RUNTIME_FOLDER}


def runtime_container(image: str) -> dict[str, Any]:
    """The init container. `image` has the runtime."""
    return {
        "name": RUNTIME_CONTAINER,
        "image": image,
        "command": ["cp", "/opt/slm/slm_runtime.pyz", RUNTIME],
        "volumeMounts": [dict(RUNTIME_MOUNT)],
        "securityContext": container_security(),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
    }


def runtime_volume() -> dict[str, Any]:
    """What it is copied into."""
    return {"name": VOLUME, "emptyDir": {}}
