"""What a start of the operator must not import: each cost a tenth of a second or more, and megabytes, for nothing."""

import subprocess
import sys

START = """
import sys, slm_operator.main, slm_operator.handlers, slm_operator.assembly
print(*sorted({name.partition(".")[0] for name in sys.modules} | {name for name in sys.modules if name.count(".") == 1}))
"""


def test_a_start_imports_neither_the_synchronous_client_nor_what_is_built_on_it() -> None:
    loaded = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True).stdout.split()
    assert {"kopf", "kubernetes.aio"} <= set(loaded)
    assert not {"requests", "oauthlib", "urllib3", "websocket", "kubernetes.dynamic", "kubernetes.informer"} & set(
        loaded
    )
