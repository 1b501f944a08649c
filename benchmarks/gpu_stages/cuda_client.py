"""A CUDA client in one file that needs Python alone: it does what the lines on its standard input say.

Each line is a JSON object `{"do": ...}`; each answer is one, `{"ok": {...}}` or `{"error": NAME, "call": ...}`. Speaks to
the driver (libcuda) through ctypes, so that what an MPS limit does to a client is seen without a framework's own
allocator between. Takes memory by plain allocations only. Must never change a setting of the device.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from typing import Any

MIB = 2**20
PINNED_DEVICE_MEMORY = 1  # CU_MEM_ALLOCATION_TYPE_PINNED; its other value says where it lies: 1 is the device too
MULTIPROCESSORS = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
WORK_BYTES = ctypes.c_size_t(256 * MIB)


class CudaError(Exception):
    """A call that the driver refused."""

    def __init__(self, call: str, name: str) -> None:
        super().__init__(f"{call}: {name}")
        self.call = call
        self.name = name


class Properties(ctypes.Structure):
    """CUmemAllocationProp of cuda.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("requested_handle_types", ctypes.c_int),
        ("location_type", ctypes.c_int),
        ("location_id", ctypes.c_int),
        ("win32", ctypes.c_void_p),
        ("flags", ctypes.c_ubyte * 8),
    )


class Client:
    """One context on the first visible device, and the memory that it holds."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._held: list[tuple[str, ctypes.c_uint64]] = []

    def open(self) -> dict[str, Any]:
        """Make the context. `multiprocessors` is what the client may use, where the driver says so."""
        self._call("cuInit", 0)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        uuid = (ctypes.c_ubyte * 16)()
        self._call("cuDeviceGetUuid_v2", ctypes.byref(uuid), device)
        driver = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(driver))
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        count = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(count), MULTIPROCESSORS, device)
        return {"uuid": bytes(uuid).hex(), "cuda": driver.value, "multiprocessors": count.value}

    def info(self) -> dict[str, Any]:
        """What cudaMemGetInfo says."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return {"free_bytes": free.value, "total_bytes": total.value}

    def fill(self, how: str, most_bytes: int) -> dict[str, Any]:
        """Take memory in ever smaller pieces until none is given, or there is `most_bytes` of it."""
        taken, piece, refused = 0, 1024 * MIB, None
        while piece >= 2 * MIB and taken < most_bytes:
            try:
                self._held.append((how, self._take(how, piece)))
                taken += piece
            except CudaError as error:
                refused, piece = error.name, piece // 2
        return {"had_bytes": taken, "refused_by": refused}

    def free(self) -> dict[str, Any]:
        """Give all memory back."""
        for how, address in self._held:
            self._call("cuMemFree_v2" if how == "alloc" else "cuMemRelease", address)
        self._held.clear()
        return {}

    def work(self, seconds: float) -> dict[str, Any]:
        """Fill a buffer again and again, each time to its end, and say how long the slowest took. Milliseconds."""
        buffer = self._take("alloc", WORK_BYTES.value)
        took = []
        until = time.monotonic() + seconds
        while not took or time.monotonic() < until:
            began = time.monotonic()
            for _ in range(16):
                self._call("cuMemsetD8Async", buffer, 1, WORK_BYTES, None)
            self._call("cuCtxSynchronize")
            took.append(1000 * (time.monotonic() - began))
        self._call("cuMemFree_v2", buffer)
        return {"rounds": len(took), "mean_ms": sum(took) / len(took), "longest_ms": max(took)}

    def flood(self) -> dict[str, Any]:
        """Answer, then queue work without end: a client that is killed now has work in flight."""
        buffer = self._take("alloc", WORK_BYTES.value)
        answer({"ok": {}})
        while True:
            self._call("cuMemsetD8Async", buffer, 2, WORK_BYTES, None)

    def _take(self, how: str, size: int) -> ctypes.c_uint64:
        taken = ctypes.c_uint64()
        if how == "alloc":
            self._call("cuMemAlloc_v2", ctypes.byref(taken), ctypes.c_size_t(size))
        else:
            wanted = Properties(type=PINNED_DEVICE_MEMORY, location_type=PINNED_DEVICE_MEMORY, location_id=0)
            size_and_more = (ctypes.c_size_t(size), ctypes.byref(wanted), ctypes.c_ulonglong(0))
            self._call("cuMemCreate", ctypes.byref(taken), *size_and_more)
        return taken

    def _call(self, name: str, *args: Any) -> None:
        code = getattr(self._cuda, name)(*args)
        if code:
            said = ctypes.c_char_p()
            self._cuda.cuGetErrorName(code, ctypes.byref(said))
            raise CudaError(name, said.value.decode() if said.value else str(code))


def answer(value: dict[str, Any]) -> None:
    """One line."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Obey until the input ends."""
    client = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            client = client or Client()
            answer({"ok": getattr(client, asked.pop("do"))(**asked)})
        except CudaError as error:
            answer({"error": error.name, "call": error.call})
        except OSError as error:  # there is no libcuda
            answer({"error": "CUDA_NOT_HERE", "call": str(error)})


if __name__ == "__main__":
    main()
