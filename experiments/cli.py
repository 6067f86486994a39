"""The ``mandheling`` command.

Commands live in ``cli_*`` modules by family. This one joins them and makes every refusal one line
on stderr with exit code 2.
"""

from __future__ import annotations

import sys

try:  # Ctrl-C is told in one line from here on, and imports take most of the time to --help
    import os
    import signal
    import threading
    import warnings
    from collections.abc import Sequence
    from time import monotonic
    from typing import Annotated, Any, NoReturn

    import typer
    from typer.core import TyperGroup

    from experiments import (
        cli_caches,
        cli_calibrate,
        cli_certify,
        cli_compare,
        cli_federated,
        cli_hw,
        cli_memory,
        cli_plan,
        cli_plugins,
        cli_report,
        cli_reproduce,
        cli_search,
        cli_show,
        cli_simulate,
        cli_train,
        cli_validate,
    )
    from experiments.cli_common import fail, print_text, told
except KeyboardInterrupt:
    sys.stderr.write("interrupted\n")
    sys.exit(130)

STOPS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""Signals that end a command in order, with exit code 128 + number."""
ONE_STOP_S = 1.0
"""Signals this close together are one: ``timeout`` sends its own twice."""


class OneLineErrors(TyperGroup):
    """A group of commands that tells errors in one line, without a traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run the command line and leave with its exit code."""
        words = list(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            result = super().main(words, prog_name, complete_var, standalone_mode=False, **extra)
            code = result if isinstance(result, int) else 0
            sys.stdout.flush()
        except Exception as error:
            refused = told(error)
            if refused is None:
                raise
            code = refused
        sys.exit(code)


app = typer.Typer(
    name="mandheling",
    cls=OneLineErrors,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Simulate on-device DNN training on a phone's CPU and Hexagon DSP. "
    "All times and energies are predicted, not measured.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print_text(f"mandheling {version('mandheling-sandbox')}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


app.command()(cli_compare.compare)
app.command()(cli_simulate.simulate)
app.command()(cli_search.search)
app.command()(cli_report.report)
app.command()(cli_train.train)
app.command()(cli_federated.federated)
app.command()(cli_plan.explain)
app.command()(cli_certify.certify)
app.add_typer(cli_plan.app, name="plan")
app.add_typer(cli_hw.app, name="hw")
app.command()(cli_show.devices)
app.command()(cli_show.models)
app.command()(cli_plugins.plugins)
app.command()(cli_memory.vtcm)
app.command()(cli_memory.sweep)
app.command()(cli_memory.reuse)
app.command()(cli_caches.caches)
app.command()(cli_calibrate.calibrate)
app.command()(cli_validate.validate)
app.command()(cli_reproduce.reproduce)
app.command()(cli_compare.demo)


def main() -> None:
    """Entry point of the console script."""
    if sys.stderr is None:  # closed by the caller, as is stdout below
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    if sys.stdout is None:
        sys.exit(fail("stdout is closed; send it to a file, or to /dev/null"))
    stops: list[tuple[signal.Signals, float]] = []

    def stop(number: int, _: object) -> None:
        last = stops[-1][1] if stops else -ONE_STOP_S
        stops.append((signal.Signals(number), monotonic()))
        if stops[-1][1] - last >= ONE_STOP_S:
            # threads of libraries fail over what a signal to the whole group has ended already
            threading.excepthook = lambda _: None
            warnings.simplefilter("ignore")
            raise KeyboardInterrupt

    handled = [s for s in STOPS if signal.getsignal(s) != signal.SIG_IGN]  # nohup stays in force
    for one in handled:
        signal.signal(one, stop)
    try:
        app(prog_name="mandheling")
    except BaseException:  # whatever the interrupt became on its way through the libraries
        if not stops:
            raise
        print(STOPS[stops[0][0]], file=sys.stderr)
        sys.exit(128 + stops[0][0])
    finally:
        for one in handled:  # the same once more must not kill what is ending in order
            again = bool(stops) and one == stops[0][0]
            signal.signal(one, signal.SIG_IGN if again else signal.SIG_DFL)


if __name__ == "__main__":
    main()
