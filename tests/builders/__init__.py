"""One builder for each kind of object that tests need, with sensible defaults and the options that cases are about.

A pod, a node or another object of Kubernetes is built raw, as the API server gives it (`raw_node`), and its record is what
the watch makes of that (`node`): they cannot disagree. Nothing here may know what a test expects, nor make a plan when it is
imported.
"""

from tests.builders.deployments import deployment, deployment_spec, raw_deployment, spec_of
from tests.builders.device_plugin import config_map, daemon, plugin_pods, raw_config_map, raw_daemon, raw_daemon_set
from tests.builders.documents import (
    CONSTANTS,
    DATA,
    H100_64GB,
    LEDGER,
    MODELS,
    SWEEP,
    SWEEP_AND_PACKS,
    document,
    imported,
    published,
    published_ledger,
    published_packs,
)
from tests.builders.jobs import job, measuring, printed, raw_job
from tests.builders.metadata import Raw, manifest, meta, page, raw_meta
from tests.builders.nodes import (
    H100,
    MPS_2,
    MPS_3,
    MPS_4,
    OPTED_IN,
    WHOLE,
    feature_labels,
    node,
    partitioned_node,
    raw_gpu_node,
    raw_node,
    read_node,
    slots,
)
from tests.builders.pods import TEMPLATE_HASH, foreign, raw_pod, raw_replica, read_pod, replica
from tests.builders.points import SINGLES, pack, point
from tests.builders.profiles import IMAGE_OF_PROFILES, profile, profile_spec, raw_profile
from tests.builders.servings import pack_serving, replica_fleet, serving
from tests.builders.times import NOW, later
from tests.builders.views import SETTINGS, demand, deployment_view, fleet_view, many_packs
from tests.builders.workloads import raw_workload, workload
