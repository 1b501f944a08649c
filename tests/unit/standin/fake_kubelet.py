"""The kubelet's side of the device-plugin API, on a socket in a folder: what the node would show."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from tests.standin.kubelet_api import deviceplugin_v1beta1_pb2 as api
from tests.standin.kubelet_api import deviceplugin_v1beta1_pb2_grpc as rpc


def project(folder: Path, data: Mapping[str, str], generation: int) -> None:
    """Project a ConfigMap as the kubelet does: a new folder, reached through one link that is switched."""
    fresh = folder / f"..generation-{generation}"
    fresh.mkdir()
    for key, text in data.items():
        (fresh / key).write_text(text)
        if not (folder / key).is_symlink():
            (folder / key).symlink_to(f"..data/{key}")
    staged = folder / "..data_tmp"
    staged.symlink_to(fresh.name)
    staged.rename(folder / "..data")
    for entry in folder.iterdir():
        if entry.is_symlink() and not entry.exists():
            entry.unlink()


class AdmissionError(Exception):
    """The pod fails with reason UnexpectedAdmissionError and this message."""


class FakeKubelet(rpc.RegistrationServicer):
    """Keeps capacity and allocatable as the kubelet's device manager does: a plugin that goes away leaves its
    devices unhealthy, that is in the capacity and not in the allocatable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registrations: list[str] = []
        self._devices: dict[str, dict[str, bool]] = {}
        self._held: dict[str, set[str]] = {}
        self._endpoints: dict[str, str] = {}
        self._changed = threading.Condition()
        self._streams: list[threading.Thread] = []
        self._channels: list[grpc.Channel] = []
        self._start()

    def _start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4))
        rpc.add_RegistrationServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix://{self.folder}/kubelet.sock")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=None).wait()
        for channel in self._channels:
            channel.close()
        for stream in self._streams:
            stream.join(timeout=60)
        self._server = None

    def restart(self) -> None:
        """A kubelet that starts knows nothing and makes its socket anew."""
        self.stop()
        with self._changed:
            self._devices.clear()
        (self.folder / "kubelet.sock").unlink(missing_ok=True)
        self._start()

    def Register(self, request: api.RegisterRequest, _context: grpc.ServicerContext) -> api.Empty:  # noqa: N802
        assert request.version == "v1beta1"
        assert request.options.get_preferred_allocation_available
        with self._changed:
            self.registrations.append(request.resource_name)
            self._endpoints[request.resource_name] = request.endpoint
        stream = threading.Thread(target=self._follow, args=(request.resource_name,))
        self._streams.append(stream)
        stream.start()
        return api.Empty()

    def _plugin(self, resource: str) -> rpc.DevicePluginStub:
        channel = grpc.insecure_channel(f"unix://{self.folder}/{self._endpoints[resource]}")
        self._channels.append(channel)
        return rpc.DevicePluginStub(channel)

    def _follow(self, resource: str) -> None:
        try:
            for answer in self._plugin(resource).ListAndWatch(api.Empty(), wait_for_ready=True):
                self._report(resource, {device.ID: device.health == "Healthy" for device in answer.devices})
        except (grpc.RpcError, ValueError):  # ValueError: the channel was closed by stop()
            pass
        self._report(resource, dict.fromkeys(self._devices.get(resource, {}), False))

    def _report(self, resource: str, devices: dict[str, bool]) -> None:
        with self._changed:
            self._devices[resource] = devices
            self._changed.notify_all()

    @property
    def capacity(self) -> dict[str, int]:
        with self._changed:
            return {resource: len(devices) for resource, devices in self._devices.items()}

    @property
    def allocatable(self) -> dict[str, int]:
        with self._changed:
            return {resource: sum(devices.values()) for resource, devices in self._devices.items()}

    def wait_for(self, allocatable: dict[str, int], timeout_s: float = 60) -> None:
        with self._changed:
            seen = self._changed.wait_for(lambda: self.allocatable == allocatable, timeout_s)
            assert seen, f"allocatable is {self.allocatable}, not {allocatable}"

    def device_ids(self, resource: str) -> list[str]:
        return list(self._devices[resource])

    def admit(self, resource: str, count: int = 1) -> tuple[list[str], api.ContainerAllocateResponse]:
        """Admit a pod of one container that asks for `count`: its device ids and what it is given."""
        held = self._held.setdefault(resource, set())
        free = [device for device, healthy in self._devices[resource].items() if healthy and device not in held]
        plugin = self._plugin(resource)
        wanted = api.ContainerPreferredAllocationRequest(available_deviceIDs=free, allocation_size=count)
        try:
            advice = plugin.GetPreferredAllocation(api.PreferredAllocationRequest(container_requests=[wanted]))
            ids = list(advice.container_responses[0].deviceIDs)
            answer = plugin.Allocate(
                api.AllocateRequest(container_requests=[api.ContainerAllocateRequest(devices_ids=ids)])
            )
        except grpc.RpcError as error:
            code = error.code().name.capitalize()
            raise AdmissionError(f"Allocate failed due to rpc error: code = {code} desc = {error.details()}") from None
        held.update(ids)
        return ids, answer.container_responses[0]

    def release(self, resource: str, ids: list[str]) -> None:
        """A pod has gone."""
        self._held[resource].difference_update(ids)
