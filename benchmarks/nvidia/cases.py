"""The cases that were run with NVIDIA's own binaries, with what is right in each.

A case plays on a node of its own, does what a person would do, and says what came of it. `expected` is in the table of its release:
where NVIDIA's stack cannot do a thing, right is that the operator does no harm and says so.
"""

from __future__ import annotations

import signal
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.nvidia.bed import GPUS, Bed, until
from tests import builders as build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.nvidia.played_node import PlayedNode

FLAGS = """\
version: v1
flags:
  nvidiaDriverRoot: /run/nvidia/driver
  plugin: {deviceListStrategy: [volume-mounts], deviceIDStrategy: index}
"""
FOREIGN = """\
version: v1
sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}
"""
CONFIGS = {"site": FLAGS, "foreign": FOREIGN}
RESTART_SECONDS = 25
"""Within which a daemon starts again whose config-manager signals it. NB: one that does not is waited for as long."""


@dataclass
class Row:
    """One case on one release."""

    case: str
    what: str
    expected: str
    happened: str
    right: bool
    said: str = ""
    """What status says at the end."""
    check: list[str] = field(default_factory=list)
    installer: str = ""
    release: str = ""

    def raw(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


def shown(bed: Bed, node: PlayedNode) -> str:
    """Class and slots of a node, in words."""
    amounts = ", ".join(f"{name} {count}" for name, count in sorted(bed.allocatable(node).items()))
    return f"{amounts}; {'open' if bed.is_open(node) else 'closed'}"


def in_force(node: PlayedNode) -> str:
    """Threads and compute mode of the node's GPUs."""
    limits = [one.rpartition(" ")[2] for one in node.mps("limits") or () if "thread" in one]
    modes = sorted(set((node.mps("compute-mode") or {}).values())) or ["DEFAULT"]
    return f"{limits[0] + ' % of the threads' if limits else 'no limits'}, {'/'.join(modes)}"


def released(bed: Bed, node: PlayedNode) -> bool:
    """Whether the node is as it was before."""
    return bed.allocatable(node).get("gpu") == GPUS and not [one for one in bed.marks(node) if "failed" not in one]


def time_slicing(bed: Bed) -> Iterator[Row]:
    """Case 1."""
    with bed.node("slices") as node:
        steps = []
        for engines in (2, 4):
            bed.deploy("slices", replicas=engines, mode="TimeSlicing", partitioning="NodeSlices", enginesPerGpu=engines)
            until(lambda: bed.ready("slices"))
            steps.append(f"{engines}: {shown(bed, node)}, {'Ready' if bed.ready('slices') else 'not Ready'}")
        said = bed.said("slices")
        bed.delete("slices")
        until(lambda: released(bed, node))
        steps.append(f"given back: {shown(bed, node)}")
        yield what_check_says(bed, holds=False)
        right = "Ready" in steps[0] and "not" not in steps[0] + steps[1] and released(bed, node)
        expected = "each in seconds; at the end the node is as it was before"
        yield Row("1", "none, time slicing 2, 4, given back", expected, "; ".join(steps), right, said)


def what_check_says(bed: Bed, *, holds: bool) -> Row:
    """Case 10."""
    said = [one for one in bed.check() if "MPS daemon" in one]
    expected = (
        "nothing against MPS" if holds else "a warning that MPS by label does not hold, before anybody asks for it"
    )
    happened = f"{len(said)} of its findings {'is' if len(said) == 1 else 'are'} about the MPS daemon"
    return Row("10", "kubectl slm check", expected, happened, bool(said) is not holds, "", said)


def mps_that_does_not_hold(bed: Bed) -> Iterator[Row]:
    """Cases 2A and 2B."""
    with bed.node("mps") as node:
        bed.deploy("mps", replicas=2, mode="MPS", partitioning="NodeSlices", enginesPerGpu=2)

        def given_up() -> bool:
            reason = bed.conditions("mps").get("Allocated", {}).get("reason")
            return reason == "MpsSignalLost" and bed.is_open(node) and released(bed, node)

        right = bool(until(given_up))
        happened = f"{shown(bed, node)}; {in_force(node)}"
        expected = "given up, with the reason and the remedy; the node is open and whole"
        yield Row("2", "none -> MPS 2", expected, happened, right, bed.said("mps"), bed.check())
        bed.deploy("mps", replicas=2, mode="MPS", enginesPerGpu=2)  # nobody says who divides a GPU
        right = bool(until(lambda: bed.ready("mps")))
        happened = f"{shown(bed, node)}; {'Ready' if right else 'not Ready'}"
        expected = "served as a pack in a pod, which needs nothing of NVIDIA's stack but a GPU"
        yield Row("2", "the same, partitioning Auto", expected, happened, right, bed.said("mps"))
        bed.delete("mps")


def mps_chain(bed: Bed) -> Iterator[Row]:
    """Cases 2, 3, 5 and 4', one after the other on a node."""
    with bed.node("mps") as node:
        bed.deploy("mps", replicas=2, mode="MPS", partitioning="NodeSlices", enginesPerGpu=2)
        ready = until(lambda: bed.ready("mps"))
        right = bool(ready) and "50 %" in in_force(node)
        expected = "Ready; limits of two engines"
        yield Row(
            "2", "none -> MPS 2", expected, f"{shown(bed, node)}; {in_force(node)}", right, bed.said("mps"), bed.check()
        )
        yield what_check_says(bed, holds=True)
        bed.deploy("mps", replicas=4, mode="MPS", partitioning="NodeSlices", enginesPerGpu=4)
        until(lambda: bed.ready("mps") and "25 %" in in_force(node))
        right = bed.ready("mps") and in_force(node).startswith("25 %")
        expected = "Ready only with the limits of four engines in force"
        yield Row("3", "MPS 2 -> MPS 4", expected, f"{shown(bed, node)}; {in_force(node)}", right, bed.said("mps"))
        yield sidecar_restarts(bed, node)
        yield slow_quit(bed, node)


def sidecar_restarts(bed: Bed, node: PlayedNode) -> Row:
    """Case 5."""
    pod = node.part("mps-control-daemon-ctr")
    before = set(bed.replicas("mps"))
    sidecar = "config-manager" if bed.release.installed.daemon_first else "mps-control-daemon-sidecar"
    quits = quits_of(node)
    if pod is not None:
        pod.container(sidecar).kill(signal.SIGKILL)
    restarted = bool(until(lambda: quits_of(node) > quits, RESTART_SECONDS))
    until(lambda: not (restarted and before & set(bed.replicas("mps"))) and bed.ready("mps"))
    left = len(before & set(bed.replicas("mps")))
    happened = f"the daemon {'started again' if restarted else 'ran on'}; {left} of {len(before)} engines run on; {in_force(node)}"
    right = (left == 0) is restarted and bed.ready("mps")
    expected = "engines are replaced where the daemon started again, and nowhere else"
    return Row("5", "the daemon's config-manager restarts", expected, happened, right, bed.said("mps"))


def quits_of(node: PlayedNode) -> int:
    """How often an MPS daemon of the node was told to quit."""
    written = node.folder / "run/nvidia/mps/commands.log"
    return written.read_text().count("quit") if written.exists() else 0


def slow_quit(bed: Bed, node: PlayedNode) -> Row:
    """Case 4'."""
    node.fault("{mps_quit_s: 6}")
    time.sleep(1)  # until the daemon has heard of it
    bed.delete("mps")
    until(lambda: not bed.marks(node) and bed.is_open(node))
    mode = in_force(node)
    alone = node.part("mps-control-daemon-ctr") is None
    until(lambda: released(bed, node))
    happened = f"opened {'after' if alone else 'before'} the daemon's end, {mode}; {shown(bed, node)}"
    right = alone and mode.endswith("DEFAULT") and released(bed, node)
    return Row(
        "4'",
        "MPS 4 -> none, `quit` takes its time",
        "opened when the daemon is gone and its mode with it",
        happened,
        right,
    )


def killed_daemon(bed: Bed) -> Iterator[Row]:
    """Cases 4 and 4''."""
    with bed.node("left") as node:
        bed.deploy("left", replicas=2, mode="MPS", partitioning="NodeSlices", enginesPerGpu=2)
        until(lambda: bed.ready("left"))
        bed.delete("left")
        until(lambda: released(bed, node))
        happened = f"{shown(bed, node)}; {in_force(node)}"
        right = released(bed, node) and in_force(node) == "no limits, DEFAULT"
        yield Row("4", "MPS 2 -> none", "given back, DEFAULT", happened, right)
        bed.deploy("left", replicas=2, mode="MPS", partitioning="NodeSlices", enginesPerGpu=2)
        until(lambda: bed.ready("left"))
        node.fault("{mps_daemon_dead: true}")
        until(lambda: not bed.ready("left"))
        said = bed.said("left")
        bed.delete("left")
        until(lambda: released(bed, node))
        happened = f"{shown(bed, node)}; {in_force(node)}"
        expected = (
            "said while it serves; what is left behind is no operator's to see, and the runtime refuses such a GPU"
        )
        yield Row(
            "4''", "daemon killed, then given back", expected, happened, released(bed, node) and "daemon" in said, said
        )


def flags_of_the_node(bed: Bed) -> Iterator[Row]:
    """Case 6."""
    with bed.node("flags", **{"nvidia.com/device-plugin.config": "site"}) as node:
        bed.deploy("flags", replicas=1, mode="Exclusive")
        until(lambda: bed.ready("flags"))
        before = given(node)
        bed.deploy("flags", replicas=2, mode="TimeSlicing", partitioning="NodeSlices", enginesPerGpu=2)
        until(lambda: bed.ready("flags") and bed.allocatable(node).get("gpu.shared") == 2 * GPUS)
        after, text = given(node), bed.configuration(node)
        kept = "/run/nvidia/driver" in text
        same = before.partition(":")[0] == after.partition(":")[0]
        happened = f"a pod got {before}, then {after}; driver root {'kept' if kept else 'lost'}"
        expected = "engines get their GPU in the same way as before; the driver's root stays"
        yield Row(
            "6", "the node's own flags, then time slicing 2", expected, happened, kept and same, bed.said("flags")
        )
        bed.delete("flags")
        until(lambda: bed.allocatable(node).get("gpu") == GPUS)


def given(node: PlayedNode) -> str:
    """What an engine is given for its GPU."""
    for engine in list(node.engines.values()):
        if engine.given:
            folder = engine.given["env"].get("NVIDIA_VISIBLE_DEVICES", "")
            return f"mounts: {folder}" if engine.given["mounts"] else f"variable: {folder.partition('-')[0]}"
    return "nothing: no engine"


def somebodys_slices(bed: Bed) -> Iterator[Row]:
    """Case 7."""
    with bed.node("foreign", **{"nvidia.com/device-plugin.config": "foreign"}) as node:
        until(lambda: bed.allocatable(node).get("gpu") == 4 * GPUS)
        spec = {
            "model": {"uri": "hf://facebook/opt-125m"},
            "accelerator": {"nodeSelector": {"case": "foreign"}},
            "sharing": {"mode": "Exclusive"},
        }
        bed.apply(build.manifest("SLMDeployment", "foreign", spec), "--namespace", "default")
        until(lambda: bed.conditions("foreign").get("Profiled", {}).get("reason") not in {None, "Waiting"}, 20)
        placed = until(lambda: list(node.engines.values()), 10)
        conditions = bed.conditions("foreign")
        said = "; ".join(
            f"{conditions[kind]['reason']}: {conditions[kind]['message']}"
            for kind in ("Profiled",)
            if kind in conditions
        )
        happened = f"{shown(bed, node)}; {'a profile runs on a slice' if placed else 'nothing of ours came'}"
        expected = "no profile and no engine takes a slice for a GPU"
        yield Row("7", "somebody's four slices a GPU, not renamed", expected, happened, not placed, said)
        bed.delete("foreign")


def bad_slot(bed: Bed) -> Iterator[Row]:
    """Case 8."""
    with bed.node("bad") as node:
        bed.deploy("bad", replicas=2, mode="TimeSlicing", partitioning="NodeSlices", enginesPerGpu=2)
        until(lambda: "slm-operator.io/former-device-plugin-config" in bed.marks(node), 40)
        until(lambda: not bed.is_open(node), 20)
        until(lambda: _held_back(node, 2 * GPUS), 30)
        node.silent = False
        right = bool(until(lambda: bed.ready("bad")))
        at_change = shown(bed, node)
        said = bed.said("bad")
        bed.delete("bad")
        began = time.monotonic()
        back = until(lambda: released(bed, node))
        seconds = time.monotonic() - began
        happened = f"{at_change}, {'Ready' if right else 'not Ready'}; given back {'in ' + str(round(seconds)) + ' s' if back else 'never'}"
        expected = "three slots of four are enough to serve, and to give back"
        yield Row(
            "8",
            "an Xid while a node is cut",
            expected,
            happened,
            right and bool(back) and seconds < 30,
            said,
            bed.check(),
        )


def _held_back(node: PlayedNode, slots: int) -> bool:
    """Report the node's slots only once one of them is bad. NB: silent before they are there, so that nobody sees the others."""
    node.silent = True
    if node.kubelet.allocatable.get("nvidia.com/gpu.shared") == slots:
        node.fault("{xid_gpu: 0}")
        return bool(until(lambda: node.kubelet.allocatable.get("nvidia.com/gpu.shared") == slots - 1, 10))
    return False


def plugin_restarts(bed: Bed) -> Iterator[Row]:
    """Case 9, and a plugin whose pod goes while its node is closed."""
    with bed.node("plugin") as node:
        bed.deploy("plugin", replicas=2, mode="TimeSlicing", partitioning="NodeSlices", enginesPerGpu=2)
        until(lambda: bed.ready("plugin"))
        before = set(bed.replicas("plugin"))
        _delete_plugin(bed, node)
        until(lambda: bed.allocatable(node).get("gpu.shared") == 2 * GPUS and bed.ready("plugin"))
        time.sleep(3)  # what would be done to the engines would be done by now
        stayed = before == set(bed.replicas("plugin"))
        happened = f"{shown(bed, node)}; {'the engines ran on' if stayed else 'engines were replaced'}"
        yield Row(
            "9",
            "the plugin's pod is replaced on a cut node",
            "nothing",
            happened,
            stayed and bed.ready("plugin"),
            bed.said("plugin"),
        )
        bed.deploy("plugin", replicas=4, mode="TimeSlicing", partitioning="NodeSlices", enginesPerGpu=4)
        until(lambda: not bed.is_open(node), 40)
        _delete_plugin(bed, node)
        right = bool(until(lambda: bed.ready("plugin")))
        happened = f"{shown(bed, node)}; {'Ready' if right else 'not Ready'}"
        expected = "the plugin's pod comes under the node's taint, or is let in; then as without it"
        yield Row("N4", "the plugin's pod goes while its node is closed", expected, happened, right, bed.said("plugin"))
        bed.delete("plugin")


def _delete_plugin(bed: Bed, node: PlayedNode) -> None:
    name = bed.release.installed.containers.get("nvidia-device-plugin-ctr", "nvidia-device-plugin-ctr")
    pod = node.part(name)
    if pod is None:
        return
    meta = pod.raw["metadata"]
    bed.client("DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}")
    until(lambda: node.part(name) is not pod, 40)


AS_RELEASED: tuple[Callable[[Bed], Iterator[Row]], ...] = (
    time_slicing,
    mps_that_does_not_hold,
    flags_of_the_node,
    somebodys_slices,
    bad_slot,
    plugin_restarts,
)
WHERE_MPS_HOLDS: tuple[Callable[[Bed], Iterator[Row]], ...] = (mps_chain, killed_daemon)
