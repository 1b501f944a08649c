"""What a start of the operator must not import: each cost a tenth of a second or more, and megabytes, for nothing."""

import subprocess
import sys

import pytest

START = """
import sys, slm_operator.main, slm_operator.watch.kopf_adapter, slm_operator.assembly
print(*sorted({name.partition(".")[0] for name in sys.modules} | {name for name in sys.modules if name.count(".") == 1}))
"""
OTHERS = """
import slm_operator.kube.credentials
import kubernetes.aio.config, kubernetes.client, kubernetes.watch
print(kubernetes.aio.config.load_kube_config, kubernetes.client.V1Pod, kubernetes.watch.Watch)
"""


def printed(program: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.slow
def test_start_imports_no_synchronous_kubernetes_client() -> None:
    loaded = set(printed(START))
    assert {"kopf", "kubernetes.aio"} <= loaded
    assert not {"requests", "oauthlib", "urllib3", "websocket", "kubernetes.dynamic", "kubernetes.informer"} & loaded


@pytest.mark.slow
def test_kubernetes_package_stays_importable_for_others() -> None:
    assert "'kubernetes.client.models.v1_pod.V1Pod'>" in printed(OTHERS)
