"""What is used of the `kubernetes` package: the reading of credentials, and nothing is imported but that.

Python runs the `__init__` of every package above what is imported, and those of `kubernetes` and `kubernetes.aio` import
all there is: two clients, requests, oauthlib, websockets. So these two are put in their places without being run; any
part of them can be imported as before, by Kopf and by everybody else, and is loaded when it is. Only names that a run
would give are missing: `kubernetes.__version__`. What that saves every command of `kubectl slm` stands in
docs/reference/performance.md, and tests/unit/kube/test_imports.py says when a new version undoes it. The image is built without the
package's generated classes (80 MB): there the whole of it could not be imported.

Must be imported before Kopf, which else imports the whole package.
"""

import sys
from importlib.util import find_spec, module_from_spec

for _name in ("kubernetes", "kubernetes.aio"):
    if _name not in sys.modules and (_spec := find_spec(_name)) is not None:
        sys.modules[_name] = module_from_spec(_spec)
sys.modules["kubernetes"].aio = sys.modules["kubernetes.aio"]  # type: ignore[attr-defined]  # as an import would

from kubernetes.aio.client.configuration import Configuration  # noqa: E402 - only now
from kubernetes.aio.config import (  # noqa: E402
    ConfigException,
    list_kube_config_contexts,
    load_incluster_config,
    load_kube_config,
)

__all__ = [
    "ConfigException",
    "Configuration",
    "list_kube_config_contexts",
    "load_incluster_config",
    "load_kube_config",
]
