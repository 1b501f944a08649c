"""The Kubernetes API as this operator uses it: one connection, few verbs, typed errors. Knows none of our kinds.

Of the `kubernetes` package only the reading of credentials is used. But Python runs the `__init__` of every package above
what is imported, and those of `kubernetes` and `kubernetes.aio` import all there is: two clients, requests, oauthlib,
websockets. So these two are put in their places without being run; any part of them can be imported as before, by Kopf
and by everybody else, and is loaded when it is. Only names that a run would give are missing: `kubernetes.__version__`.
What that saves stands in docs/performance.md, and tests/unit/kube/test_imports.py says when a new version undoes it.
"""

import sys
from importlib.util import find_spec, module_from_spec

for _name in ("kubernetes", "kubernetes.aio"):
    if _name not in sys.modules and (_spec := find_spec(_name)) is not None:
        sys.modules[_name] = module_from_spec(_spec)
sys.modules["kubernetes"].aio = sys.modules["kubernetes.aio"]  # type: ignore[attr-defined]  # as an import would
