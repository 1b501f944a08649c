"""`kubectl slm advise`: the advice on measurements from a file, for a person or for a script."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from slm_core.candidates import CheckName
from slm_core.engines.registry import engine_named

from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import measurements
from slm_operator.cli.inputs.question import advice_on, settings_of, slo_of
from slm_operator.cli.render.answer import answer
from slm_operator.cli.render.for_scripts import print_json

if TYPE_CHECKING:
    from argparse import Namespace

    from slm_core.engines.base import Engine
    from slm_core.measurements import Ledger

    from slm_operator.advisor.advice import Advice


def run(arguments: Namespace) -> int:
    """Print the advice. An SLO that no batch keeps, not even B=1, is refused after its closest point is printed."""
    if arguments.workload is not None:
        from slm_operator.cli.commands import advise_for  # noqa: PLC0415 - a file of measurements needs none of it

        return advise_for.run(arguments)
    if arguments.filename is None and arguments.from_csv is None:
        raise Refused("give measurements with -f or --from-csv, or an engine that you run with --for")
    if arguments.output not in ("table", "json", "yaml") or arguments.to is not None:
        raise Refused("a change to an engine is made for one that you run: give it with --for")
    document = measurements(arguments)
    advice = advice_on(document, slo_of(arguments), settings_of(arguments))
    show(advice, document.ledger, engine_named(document.engine.name), arguments.output)
    if advice.closest and advice.closest.check is CheckName.SLO:
        raise Refused(f"slo: {advice.closest.because}: {advice.closest.remedy}")
    return 0


def show(advice: Advice, ledger: Ledger | None, engine: Engine, form: str) -> None:
    """Print advice as a table, as json or as yaml."""
    if form == "table":
        from slm_operator.cli.render.terminal import show_advice  # noqa: PLC0415 - rich is for people

        show_advice(advice, ledger, engine)
    elif form == "yaml":
        import yaml  # noqa: PLC0415 - 50 ms that JSON does not cost

        yaml.safe_dump(answer(advice), sys.stdout, sort_keys=False, allow_unicode=True, width=1000)
    else:
        print_json(answer(advice))
