"""The helper that tells tests which pod holds which device."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from tests.standin.kubelet_api import podresources_v1_pb2 as api
from tests.standin.kubelet_api import podresources_v1_pb2_grpc as rpc
from tests.standin.pod_resources import allocations


def devices(resource: str, *ids: str) -> api.ContainerDevices:
    return api.ContainerDevices(resource_name=resource, device_ids=ids)


class Lister(rpc.PodResourcesListerServicer):
    def List(  # noqa: N802 - the API's name
        self, _request: api.ListPodResourcesRequest, _context: grpc.ServicerContext
    ) -> api.ListPodResourcesResponse:
        engine = api.ContainerResources(
            name="engine", devices=[devices("nvidia.com/gpu", "GPU-b"), devices("nvidia.com/gpu", "GPU-a")]
        )
        idle = api.ContainerResources(name="idle")
        return api.ListPodResourcesResponse(
            pod_resources=[api.PodResources(namespace="ns", name="pod", containers=[engine, idle])]
        )


@pytest.fixture
def kubelet() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gpu") as folder:
        server = grpc.server(ThreadPoolExecutor(max_workers=1))
        rpc.add_PodResourcesListerServicer_to_server(Lister(), server)
        server.add_insecure_port(f"unix://{folder}/kubelet.sock")
        server.start()
        yield Path(folder) / "kubelet.sock"
        server.stop(grace=None).wait()


def test_devices_of_one_resource_are_one_record(kubelet: Path) -> None:
    assert allocations(kubelet) == [
        {
            "namespace": "ns",
            "pod": "pod",
            "container": "engine",
            "resource": "nvidia.com/gpu",
            "device_ids": ["GPU-a", "GPU-b"],
        }
    ]


def test_no_kubelet_is_an_error_that_names_the_socket(tmp_path: Path) -> None:
    with pytest.raises(grpc.RpcError, match=r"absent\.sock"):
        allocations(tmp_path / "absent.sock")
