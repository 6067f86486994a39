"""``mandheling validate``: predicted against measured step times of plans on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import (
    CliError,
    JsonOption,
    OutputOption,
    a_path,
    check_target,
    deliver,
    manifest,
    progress,
    say,
    stdout_console,
    working,
)

if TYPE_CHECKING:
    from cost_models.samples import Sample

SAMPLES = Path("results") / "host.jsonl"
"""From the folder that the command is run in; else from that of this repository."""
PICTURES = (".png", ".svg", ".pdf")
NOTE = "step times of plans in two processes of one machine; no phone was measured"


def validate(
    samples: Annotated[
        Path | None,
        typer.Option(
            "--samples",
            metavar="FILE",
            parser=a_path,
            help="What was measured; default: results/host.jsonl.",
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure here what FILE lacks; run it under chrt -f 20."),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", parser=a_path, help="Draw predicted over measured."),
    ] = None,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare predicted and measured step times on this machine."""
    check_target("--output", output)
    check_target("--plot", plot)
    if plot is not None:
        _check_plot(plot, output)
    if measure:
        samples = samples or SAMPLES
        check_target("--samples", samples)
        _measure(samples)
    elif samples is None:
        samples = SAMPLES if SAMPLES.exists() else Path(__file__).parents[1] / SAMPLES
    from cost_models.samples import read_samples
    from experiments.host.stored import check_machine
    from experiments.host.study import study

    content = read_samples(samples)
    check_machine(content.samples, content.fingerprints)
    with working("Predicting"):
        found = study(content.samples)
    on = [one.document() for one in content.fingerprints]
    document = {"note": NOTE, "measured_on": on, **found, "manifest": manifest()}
    picture = None if plot is None else _drawn(found["plans"], plot.suffix[1:].lower())
    deliver(document, as_json, output)
    if plot is not None and picture is not None:
        _write(plot, picture)
    if not as_json:
        _print(document)


def _measure(path: Path) -> None:
    """Take what is missing, in a random order, so that drift does not follow the networks."""
    from experiments.host.measure import measure
    from experiments.host.stored import all_wanted, check_machine, check_plans
    from hw_bridge.host import host_fingerprint
    from hw_bridge.samples import SampleStore, collect

    todo = list(all_wanted().items())
    _check_backend()
    with (
        SampleStore.open(path, host_fingerprint()) as store,
        progress("Measuring", len(todo)) as advance,
    ):
        check_machine(store.samples, store.fingerprints)
        check_plans(store.samples)
        missing = sum(not store.done(key) for key, _ in todo)
        say(f"measuring {missing} of {len(todo)} visits; an interrupted run goes on where it was")
        told = 0

        def taken(key: str, config: Any) -> Sample:
            nonlocal told
            told += 1
            if told % 20 == 0:
                say(f"{told} of {missing}")
            return measure(key, config)

        collect(store, todo, taken, advance=advance)


def _check_backend() -> None:
    """Refuse a machine that cannot measure, before there is a store without samples.

    Raises
    ------
    CliError
        Says what it lacks.
    """
    from hw_bridge.host.machine import examine

    for step in examine():
        if not step.ok:
            raise CliError(f"--measure: {step.name}: {step.found}; {step.remedy}")


def _print(document: dict[str, Any]) -> None:
    from experiments.render import show, table

    console = stdout_console()
    cells = []
    for name, each in (*document["models"].items(), ("all", document["step"])):
        figures = (f"{_percent(each['median'])}", f"{_percent(each['p90'])}")
        signed = f"{100 * each['signed_median']:+.1f}"
        worst = f"{100 * each['worst']:+.1f}"
        cells.append((name, str(each["plans"]), *figures, signed, worst, each["worst_plan"]))
    columns = ("network", "plans", "median %", "p90 %", "signed %", "worst %", "worst plan")
    show(console, table("Predicted step times", columns, cells, also_left=(6,)))
    rows = [
        (row["plan"], row["row"], _us(row["measured_ns"]), _us(row["predicted_ns"]),
         f"{100 * row['of_step']:+.1f}")
        for row in document["worst_rows"]
    ]  # fmt: skip
    heads = ("plan", "row", "measured us", "predicted us", "% of step")
    show(console, table("Worst rows", heads, rows, also_left=(1,)))
    for text in _remarks(document):
        show(console, text)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _us(time_ns: int) -> str:
    return f"{time_ns / 1000:.0f}"


def _remarks(document: dict[str, Any]) -> list[str]:
    tau, held, span = (document[name] for name in ("kendall_tau", "left_out", "interval"))
    plans = document["step"]["plans"]
    return [
        f"Order of plans of one network: Kendall's tau {tau['tau']:.3f} over {tau['pairs']} pairs "
        f"({tau['within_noise']} more differ by no more than visits or steps do; by the steps of "
        f"one visit alone {tau['tau_within']:.3f}; of a second visit against the first "
        f"{tau['tau_visits']:.3f}).",
        f"Networks left out of the fit: median {_percent(held['median'])} % over {held['plans']} "
        f"plans of {held['networks']} networks.",
        f"90 % of step times lie within {span['low']:.2f} to {span['high']:.2f} times their "
        f"prediction ({span['kind']}, {span['groups']} networks); of the predicted plans "
        f"{span['covered']} of {span['of']} do.",
        f"Numbers equal to the numeric executor's, bit for bit: {document['equal_numbers']} of "
        f"{plans} plans.",
    ]


def _check_plot(plot: Path, output: Path | None) -> None:
    """Refuse a picture that could not be drawn, before any work is done for it.

    Raises
    ------
    CliError
        Its name ends otherwise than :data:`PICTURES`, is that of ``--output``, or Matplotlib is
        not installed.
    """
    if plot.suffix.lower() not in PICTURES:
        raise CliError(f"--plot {plot}: its name must end in one of {', '.join(PICTURES)}")
    if output is not None and plot.resolve() == output.resolve():
        raise CliError(f"--plot {plot}: --output is the same file; give another name")
    _pyplot()


def _pyplot() -> Any:
    """Matplotlib without a display.

    Raises
    ------
    CliError
        It is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise CliError(
            "--plot needs matplotlib; install it with pip install 'mandheling-sandbox[report]'"
        ) from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _drawn(plans: list[dict[str, Any]], form: str) -> bytes:
    """Predicted over measured step time of every plan, with the line where they are equal."""
    from io import BytesIO

    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(5, 5))
    by_model: dict[str, list[tuple[float, float]]] = {}
    for each in plans:
        point = each["measured_ns"] / 1e6, each["predicted_ns"] / 1e6
        by_model.setdefault(each["plan"].partition("/")[0], []).append(point)
    for name, points in by_model.items():
        axes.plot(*zip(*points, strict=True), ".", label=name)
    ends = [min(p for each in by_model.values() for pair in each for p in pair),
            max(p for each in by_model.values() for pair in each for p in pair)]  # fmt: skip
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="measured step, ms", ylabel="predicted step, ms")
    axes.legend()
    figure.tight_layout()
    content = BytesIO()
    figure.savefig(content, format=form)
    plt.close(figure)
    return content.getvalue()


def _write(path: Path, picture: bytes) -> None:
    from sim.files import replacing

    with replacing(path) as file:
        file.write(picture)
    say(f"wrote {path}")
