#!/usr/bin/python3
"""One script under the names of NVIDIA's commands: what runs is what it was called by."""

import importlib
import logging
import os
import sys
from pathlib import Path

MODULES = {
    "nvidia-device-plugin": "device_plugin",
    "config-manager": "config_manager",
    "gpu-feature-discovery": "feature_discovery",
    "mps-control-daemon": "mps_daemon",
    "nfd-master": "nfd_master",
    "pod-resources": "pod_resources",
}


def main() -> None:
    """Run the command; an error that ends it is one line, as NVIDIA's are."""
    name = Path(sys.argv[0]).name
    if os.environ.get("STANDIN_NAMED") != name:
        # NVIDIA's are binaries, so that the first word of their command line is the command's name, and config-manager looks for it.
        # A script's is its interpreter: it begins again under its name. PYTHONHOME, because Python finds its library by that word.
        again = {
            "STANDIN_NAMED": name,
            "PYTHONHOME": sys.base_prefix,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path[1:])),
        }
        os.execve(sys.executable, [name, *sys.argv], os.environ | again)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=f"%(asctime)s {name}: %(message)s")
    module = importlib.import_module(f"standin.{MODULES[name]}")  # late, so that each command loads only what it needs
    try:
        module.main()
    except Exception as error:
        logging.getLogger(name).error("%s", error, exc_info=type(error).__module__.split(".")[0] != "standin")  # noqa: TRY400
        # NB: not sys.exit, which would wait for the threads of a gRPC server that was not stopped.
        os._exit(1)


if __name__ == "__main__":
    main()
