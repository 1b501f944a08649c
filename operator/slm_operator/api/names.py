"""Every name that the operator writes into a cluster: group, labels, annotations, conditions, reasons.

Exists so that a name is spelt once. Must never hold a name that belongs to NVIDIA's stack and can be configured there:
those are settings.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

GROUP: Final = "slm-operator.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
DEPLOYMENT_KIND: Final = "SLMDeployment"
PROFILE_KIND: Final = "SLMProfile"
FIELD_MANAGER: Final = "slm-operator"
REPLICAS_MANAGER: Final = "slm-operator-replicas"
"""Field manager of `spec.replicas` while nobody else sets it: of that field of an SLMDeployment, and of nothing else."""

# On nodes. The first is an administrator's, unless `nodes.optInLabel` of the settings names another; the rest are ours.
OPT_IN_LABEL: Final = f"{GROUP}/managed"
CLASS_LABEL: Final = f"{GROUP}/slice-class"
SERVES_LABEL: Final = f"{GROUP}/serves"
CHANGING_TAINT: Final = f"{GROUP}/changing"
FORMER_CONFIG_ANNOTATION: Final = f"{GROUP}/former-device-plugin-config"
CHANGE_STARTED_ANNOTATION: Final = f"{GROUP}/change-started"
CHANGE_FAILED_ANNOTATION: Final = f"{GROUP}/change-failed"
FAILED_ON_ANNOTATION: Final = f"{GROUP}/change-failed-on"
CHANGING_TO_ANNOTATION: Final = f"{GROUP}/changing-to"
KEPT_ANNOTATION: Final = f"{GROUP}/kept-from-autoscalers"
"""Which of the following the operator added."""
KEEP_NODE_ANNOTATIONS: Final = ("cluster-autoscaler.kubernetes.io/scale-down-disabled", "karpenter.sh/do-not-disrupt")
"""Of others: "true" has the autoscaler of nodes leave a node alone (docs of the cluster autoscaler and of Karpenter)."""
PAUSED_ANNOTATION: Final = f"{GROUP}/paused"
"""An administrator's: "true" stops every change of the node until it is removed."""

# On the device plugin's ConfigMap: when each of our keys was added, so that its projection into volumes can be awaited, and
# since when no node names it, so that what still reads it is not left with nothing.
KEY_ADDED_ANNOTATION_PREFIX: Final = f"added.{GROUP}/"
KEY_UNUSED_ANNOTATION_PREFIX: Final = f"unused.{GROUP}/"

# On objects that the operator makes. NB: the first is anybody's to write: what is deleted by it must be the operator's by more.
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "slm-operator"
DEPLOYMENT_LABEL: Final = f"{GROUP}/deployment"
PROFILE_LABEL: Final = f"{GROUP}/profile"
"""On an SLMProfile: its key, for people to select by; it is found by its spec. On its Job: the profile's name."""
ADVICE_ANNOTATION: Final = f"{GROUP}/advice"
ENGINES_LABEL: Final = f"{GROUP}/engines"
"""On a pack's pod: how many engines it runs."""
ROUTER_ANNOTATION: Final = f"{GROUP}/router"
"""On a pack's pod: the configuration of its router, which reads it there."""
SERVED_ANNOTATION: Final = f"{GROUP}/served"
APPLIED_ANNOTATION: Final = f"{GROUP}/applied"
REQUEST_ANNOTATION: Final = f"{GROUP}/request"
TEMPLATE_ANNOTATION: Final = f"{GROUP}/template"
"""On a profile's Job: digest of the pod template in the profile's spec, as it was when the Job was made."""
PRODUCT_ANNOTATION: Final = f"{GROUP}/product"
"""On a profile's Job: the GPU product that it is measured on, whoever chose it."""
FORMER_ANNOTATION: Final = f"{GROUP}/former"
"""On a profile's pod: the measurement document that it goes on from."""
RETRY_ANNOTATION: Final = f"{GROUP}/retry"
"""On an SLMProfile, a person's: any new value has it tried again now. On its Job: the value that the Job was made for."""
UPGRADE_ANNOTATION: Final = f"{GROUP}/upgrade"
"""On an SLMDeployment, a person's: with any new value it takes the operator's defaults of now. `kubectl slm upgrade` writes it."""
CONFIG_KEY_PREFIX: Final = "slm-"

NVIDIA_GPU: Final = "nvidia.com/gpu"
NVIDIA_SHARED_GPU: Final = "nvidia.com/gpu.shared"


class Choice(StrEnum):
    """Why the GPUs of a deployment are divided in one way and not in another: `status.sharing.reason`."""

    ASKED = "Asked"
    AS_BEFORE = "AsBefore"
    NODE_FITS = "NodeFits"
    NO_NODE_FITS = "NoNodeFits"
    MODE_NOT_HELD = "ModeNotHeld"
    NODES_UNSEEN = "NodesUnseen"
    SHARED_TENANCY = "SharedTenancy"


class Condition(StrEnum):
    """Condition types of SLMDeployment and SLMProfile."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    PROFILED = "Profiled"
    ADVISED = "Advised"
    ALLOCATED = "Allocated"
    AVAILABLE = "Available"
    ROUTED = "Routed"
    SLO_MET = "SLOMet"
    AS_FAST = "AsFastAsBefore"
