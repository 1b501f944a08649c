"""What is built beside its raw object, or by a table of its own, is what the watch or NVIDIA's stack would make of it."""

import pytest
from slm_core.measurements import SharingMode
from slm_operator.partitioning.base import SliceClass
from slm_operator.partitioning.plugin_config import plugin_config
from slm_operator.watch import custom_resources

from tests import builders as build
from tests.standin.config import parse
from tests.standin.labels import feature_labels
from tests.standin.settings import Hardware

SLICED_2 = SliceClass(mode=SharingMode.TIME_SLICING, engines_per_gpu=2)


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("imported", [False, True])
def test_a_profile_with_figures_is_as_the_watch_reads_it(*, imported: bool, ours: bool) -> None:
    of = build.deployment()
    raw = build.raw_profile(of, build.imported(), imported=imported, ours=ours)
    assert build.profile(of, build.imported(), imported=imported, ours=ours) == custom_resources.profile(raw)


@pytest.mark.parametrize("slice_class", [build.MPS_2, build.MPS_4, SLICED_2], ids=lambda one: one.label)
def test_a_nodes_labels_are_those_that_nvidias_stack_shows(slice_class: SliceClass) -> None:
    hardware = Hardware(count=3)
    shown = feature_labels(parse(plugin_config(slice_class)), hardware, timestamp_s=0)
    assert build.feature_labels(3, slice_class).items() <= shown.items()
