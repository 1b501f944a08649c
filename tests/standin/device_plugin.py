"""The device plugin: the kubelet's gRPC API (v1beta1) over `devices.py`.

Holds what is served now and nothing else. A restart stops the old servers before the new configuration is
read, so a configuration that is refused, or an MPS daemon that does not answer, leaves nothing advertised: the
kubelet then shows allocatable 0 and keeps the capacity.
"""

# ruff: noqa: N802 - the API's method names
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from . import config, devices
from .daemon import Daemon, KilledError
from .kubelet_api import deviceplugin_v1beta1_pb2 as api
from .kubelet_api import deviceplugin_v1beta1_pb2_grpc as rpc
from .node import ApiNode, follow_faults
from .releases import LATEST, Version, version_from
from .settings import Faults, Gpu, Hardware, place

RETRY_S = 30.0
RPC_S = 5.0

log = logging.getLogger(__name__)


class ResourceServer(rpc.DevicePluginServicer):
    """Serves one resource name on a socket of its own."""

    def __init__(self, offered: devices.Offer, folder: Path) -> None:
        self.offered = offered
        self.socket = folder / f"nvidia-{offered.resource.partition('/')[2]}.sock"
        self._unhealthy: frozenset[str] = frozenset()  # device ids
        self._changed = threading.Condition()
        self._stopped = False
        self._server = grpc.server(ThreadPoolExecutor(max_workers=8, thread_name_prefix="grpc"))
        rpc.add_DevicePluginServicer_to_server(self, self._server)

    def start(self) -> None:
        """Listen; a socket left by a killed predecessor is replaced."""
        self.socket.unlink(missing_ok=True)
        self._server.add_insecure_port(f"unix://{self.socket}")
        self._server.start()

    def register(self, kubelet: Path) -> None:
        """Announce the resource to the kubelet. Raises grpc.RpcError."""
        with grpc.insecure_channel(f"unix://{kubelet}") as channel:
            rpc.RegistrationStub(channel).Register(
                api.RegisterRequest(
                    version="v1beta1",
                    endpoint=self.socket.name,
                    resource_name=self.offered.resource,
                    options=self._options(),
                ),
                timeout=RPC_S,
                wait_for_ready=True,
            )

    def stop(self) -> None:
        """End the stream to the kubelet, which takes the devices for unhealthy from then on."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._server.stop(grace=None).wait()
        self.socket.unlink(missing_ok=True)

    def report_error(self, gpu: str) -> str | None:
        """A critical error of this GPU (by UUID): the device that is unhealthy from now on, for as long as this server lives.

        NB: one, whatever the GPU is shared by, since upstream's table from GPU to device holds the last of each.
        """
        device = next((device.id for device in reversed(self.offered.devices) if device.gpu == gpu), None)
        with self._changed:
            self._unhealthy |= {device} if device else set()
            self._changed.notify_all()
        return device

    @staticmethod
    def _options() -> api.DevicePluginOptions:
        return api.DevicePluginOptions(get_preferred_allocation_available=True)

    def _devices(self) -> api.ListAndWatchResponse:
        return api.ListAndWatchResponse(
            devices=[
                api.Device(ID=device.id, health="Unhealthy" if device.id in self._unhealthy else "Healthy")
                for device in self.offered.devices
            ]
        )

    def GetDevicePluginOptions(self, _request: api.Empty, _context: grpc.ServicerContext) -> api.DevicePluginOptions:
        """Say which optional calls there are."""
        return self._options()

    def ListAndWatch(self, _request: api.Empty, context: grpc.ServicerContext) -> Iterator[api.ListAndWatchResponse]:
        """Send the devices now and whenever their health changes, until the plugin stops or the kubelet hangs up."""
        context.add_callback(self._wake)
        while True:
            with self._changed:
                reported = self._unhealthy
                answer = self._devices()
            yield answer
            with self._changed:
                while self._unhealthy == reported and not self._stopped and context.is_active():
                    self._changed.wait()
                if self._stopped or not context.is_active():
                    return

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def GetPreferredAllocation(
        self, request: api.PreferredAllocationRequest, context: grpc.ServicerContext
    ) -> api.PreferredAllocationResponse:
        """Advise the kubelet which devices to take."""

        def preferred(wanted: api.ContainerPreferredAllocationRequest) -> api.ContainerPreferredAllocationResponse:
            ids = devices.prefer(
                self.offered, wanted.available_deviceIDs, wanted.must_include_deviceIDs, wanted.allocation_size
            )
            return api.ContainerPreferredAllocationResponse(deviceIDs=ids)

        with _refusals(context):
            return api.PreferredAllocationResponse(
                container_responses=[preferred(c) for c in request.container_requests]
            )

    def Allocate(self, request: api.AllocateRequest, context: grpc.ServicerContext) -> api.AllocateResponse:
        """Give each container what it needs for its devices."""
        with _refusals(context):
            grants = [devices.allocate(self.offered, wanted.devices_ids) for wanted in request.container_requests]
        log.info("Allocate %s: %s", self.offered.resource, [list(c.devices_ids) for c in request.container_requests])
        return api.AllocateResponse(container_responses=[_response(grant) for grant in grants])

    def PreStartContainer(
        self, _request: api.PreStartContainerRequest, _context: grpc.ServicerContext
    ) -> api.PreStartContainerResponse:
        """Nothing; never asked for."""
        return api.PreStartContainerResponse()


class _refusals:  # noqa: N801 - read as a function
    """Turn a refusal into the gRPC status that Go's plugin gives an ordinary error: UNKNOWN, with its text."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, devices.RequestRefusedError):
            log.error("%s", error)
            self._context.abort(grpc.StatusCode.UNKNOWN, str(error))


def _response(grant: devices.Grant) -> api.ContainerAllocateResponse:
    files = grant.device_files
    return api.ContainerAllocateResponse(
        envs=grant.envs,
        mounts=[api.Mount(container_path=one.container_path, host_path=one.host_path) for one in grant.mounts],
        annotations=grant.annotations,
        cdi_devices=[api.CDIDevice(name=name) for name in grant.cdi_devices],
        devices=[
            api.DeviceSpec(container_path=one.container_path, host_path=one.host_path, permissions="rw")
            for one in files
        ],
    )


def mps_daemon_answers(control: Path) -> bool:
    """Whether an MPS control daemon listens on its pipe and knows its limits."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(RPC_S)
        try:
            connection.connect(str(control))
            connection.sendall(b"get_default_active_thread_percentage\n")
            return bool(connection.recv(64))
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the plugin works, and how patiently."""

    folder: Path = Path("/var/lib/kubelet/device-plugins")
    config_file: Path = Path("/config/config.yaml")
    mps_folder: Path = Path(devices.MPS_CONTAINER_ROOT)  # the MPS root as this process sees it
    env: Mapping[str, str] = field(default_factory=dict)  # variables that win over the file
    version: Version = LATEST
    retry_s: float = RETRY_S

    @property
    def kubelet(self) -> Path:
        """The kubelet's registration socket."""
        return self.folder / "kubelet.sock"


class DevicePlugin:
    """The service behind the daemon `nvidia-device-plugin`."""

    def __init__(self, gpus: Sequence[Gpu], setting: Setting) -> None:
        self._gpus = gpus
        self._setting = setting
        self._server: ResourceServer | None = None
        self._xid_gpu: int | None = None

    def start(self) -> float | None:
        """Load the configuration, serve and register. Raises ConfigError, which ends the process."""
        setting = self._setting
        log.info("Loading configuration.")
        text = setting.config_file.read_text() if setting.config_file.exists() else ""
        loaded = config.parse(text, env=setting.env, version=setting.version)
        config.check_flags(loaded)
        log.info("Running with config: %s", loaded)
        offered = devices.offer(loaded, self._gpus)
        if not offered.devices:
            log.info("No devices found. Waiting indefinitely.")
            return None
        control = Path(devices.pipe_folder(str(setting.mps_folder), offered.resource)) / "control"
        if loaded.sharing.strategy == "mps" and not mps_daemon_answers(control):
            return self._failed(
                "error waiting for MPS daemon: error checking MPS daemon health: failed to send command to MPS daemon: exit status 1"
            )
        server = ResourceServer(offered, setting.folder)
        server.start()
        try:
            server.register(setting.kubelet)
        except grpc.RpcError as error:
            server.stop()
            return self._failed(f"could not register with the kubelet: {error.code()} {error.details()}")
        self._server = server
        log.info("Registered device plugin for '%s' with Kubelet", offered.resource)
        return None

    def _failed(self, reason: str) -> float:
        log.error("Failed to start plugin: %s", reason)
        log.info("Failed to start one or more plugins. Retrying in %gs...", self._setting.retry_s)
        return self._setting.retry_s

    def stop(self) -> None:
        """Stop serving."""
        if self._server:
            log.info("Stopping to serve '%s' on %s", self._server.offered.resource, self._server.socket)
            self._server.stop()
            self._server = None

    def take(self, faults: Faults) -> None:
        """Hear of a GPU's error, or crash. NB: an error is told once: a plugin that starts after it knows of none."""
        if faults.crash:
            raise KilledError("the fault 'crash' is switched on")
        if faults.xid_gpu == self._xid_gpu:
            return
        self._xid_gpu = faults.xid_gpu
        if self._server is None or faults.xid_gpu is None:
            return
        for uuid in (gpu.uuid for gpu in self._gpus if gpu.index == faults.xid_gpu):
            device = self._server.report_error(uuid)
            log.info("XidCriticalError: Xid=79 on Device=%s; marking device as unhealthy.", device)


def main() -> None:
    """Run the plugin on this node, as the container's process."""
    node = ApiNode.from_env()
    env = os.environ
    setting = Setting(
        folder=place("/var/lib/kubelet/device-plugins"),
        config_file=place(env.get("CONFIG_FILE", "/config/config.yaml")),
        mps_folder=place(devices.MPS_CONTAINER_ROOT),
        env={variable: env[variable] for _below, variable, _default in config.FLAGS.values() if variable in env},
        version=version_from(env),
        retry_s=float(env.get("RETRY_S", RETRY_S)),
    )
    daemon = Daemon(DevicePlugin(Hardware.from_env(env).gpus(node.name), setting), watched=setting.kubelet)
    daemon.obey_signals()
    daemon.run(follow_faults(node, daemon.set_faults))
