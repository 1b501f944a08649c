"""`kubectl slm report`: the advice and its evidence as one HTML file, from a file or from a deployment of the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import measurements
from slm_operator.cli.inputs.question import advice_on, settings_of, slo_of
from slm_operator.cli.support import private_file
from slm_operator.report.page import page
from slm_operator.report.view import scene

if TYPE_CHECKING:
    from argparse import Namespace

    from slm_core.measurements import MeasurementDocument
    from slm_core.slo import Slo

    from slm_operator.advisor.advice import Settings


def run(arguments: Namespace) -> int:
    """Write the file and say where it is."""
    document, slo, settings = _question(arguments)
    html = page(scene(document, advice_on(document, slo, settings), slo, settings))
    path = Path(arguments.output)
    private_file.write(path, html.encode(), force=arguments.force)
    print(f"{path}: {len(html.encode()) / 1024:.0f} KiB, open it in a browser")  # noqa: T201
    return 0


def _question(arguments: Namespace) -> tuple[MeasurementDocument, Slo, Settings]:
    from_file = arguments.filename is not None or arguments.from_csv is not None
    if from_file == (arguments.name is not None):
        raise Refused("give the NAME of an SLMDeployment, or measurements with -f or --from-csv")
    if from_file:
        return measurements(arguments), slo_of(arguments), settings_of(arguments)
    from slm_operator.cli.inputs.deployed import question  # noqa: PLC0415 - a file needs no cluster

    return question(arguments)
