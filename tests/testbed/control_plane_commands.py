"""The command lines of a control plane's components, in the order in which they start.

Everything listens on loopback, keeps its data in the control plane's folder, and has durability and
leader election off: there is one of each, and its data goes with it.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from .component import Component
from .gotools import binary

if TYPE_CHECKING:
    from .control_plane import ControlPlane


def components_of(plane: "ControlPlane", ports: Mapping[str, int], *, audit: bool) -> Iterator[Component]:
    """The components, not started. `ports` are named etcd, peer, api, controllers, scheduler and kwok."""
    folder, listen = plane.folder, "127.0.0.1"

    def component(name: str, *arguments: str, ready: str, prefix: tuple[str, ...] = ()) -> Component:
        command = (*prefix, str(binary(name)), *arguments)
        return Component(name, command, folder / "pids", plane.logs / f"{name}.log", ready, plane.tokens["admin"])

    etcd, peer = f"http://{listen}:{ports['etcd']}", f"http://{listen}:{ports['peer']}"
    yield component(
        "etcd",
        f"--data-dir={folder}/etcd",
        f"--listen-client-urls={etcd}",
        f"--advertise-client-urls={etcd}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        ready=f"{etcd}/health",
    )
    audit_flags = (
        f"--audit-log-path={plane.audit_log}",
        f"--audit-policy-file={folder}/audit-policy.json",
        "--audit-log-maxsize=4096",  # MiB; after 100 it would be another file, and whoever reads this one would miss them
    )
    yield component(
        "kube-apiserver",
        f"--etcd-servers={etcd}",
        f"--bind-address={listen}",
        f"--advertise-address={listen}",
        "--endpoint-reconciler-type=none",  # a loopback address is no valid endpoint
        f"--secure-port={ports['api']}",
        f"--cert-dir={folder}/certs",
        f"--token-auth-file={folder}/tokens.csv",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder}/sa/sa.pub",
        f"--service-account-signing-key-file={folder}/sa/sa.key",
        "--shutdown-delay-duration=0s",
        "--allow-privileged",  # as everywhere: parts of NVIDIA's stack are
        *(audit_flags if audit else ()),
        ready=f"{plane.server}/readyz",
    )
    yield component(
        "kube-controller-manager",
        f"--kubeconfig={plane.kubeconfig_of('system:kube-controller-manager')}",
        f"--bind-address={listen}",
        f"--secure-port={ports['controllers']}",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={folder}/sa/sa.key",
        f"--root-ca-file={plane.ca_file}",
        "--kube-api-qps=300",
        "--kube-api-burst=500",
        ready=f"https://{listen}:{ports['controllers']}/healthz",
    )
    yield component(
        "kube-scheduler",
        f"--kubeconfig={plane.kubeconfig_of('system:kube-scheduler')}",
        f"--bind-address={listen}",
        f"--secure-port={ports['scheduler']}",
        "--leader-elect=false",
        "--kube-api-qps=300",
        "--kube-api-burst=500",
        ready=f"https://{listen}:{ports['scheduler']}/healthz",
    )
    yield component(
        "kwok",
        f"--kubeconfig={plane.kubeconfig_of('kwok')}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--v=WARN",
        "--node-lease-duration-seconds=40",
        "--cidr=10.64.0.0/10",
        f"--config={folder}/kwok.json",
        f"--node-ip={listen}",  # where the API server asks for the logs of pods
        f"--node-port={ports['kwok']}",
        f"--server-address={listen}:{ports['kwok']}",
        ready=f"http://{listen}:{ports['kwok']}/healthz",
        prefix=("/usr/bin/env", f"KWOK_WORKDIR={folder}"),  # not the user's ~/.kwok
    )
