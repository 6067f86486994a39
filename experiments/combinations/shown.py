"""A study as text: its combinations, its front, and which technique earns its place where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.combinations.analysis import (
    Gain,
    all_tested,
    front,
    gains_at_the_best,
    gains_everywhere,
    joules,
    noise_points,
    split_savings,
)
from experiments.combinations.combination import REMOVABLE
from experiments.combinations.schedules import affordable
from experiments.combinations.settings import MIB, StudySettings
from experiments.combinations.study import costs, fits, memory_of
from experiments.training.config import ConfigError
from sim.files import write_atomic

BEGIN, END = "<!-- study: begin -->", "<!-- study: end -->"
NOT_TRAINED = "not trained yet"


def combinations_table(content: Mapping[str, Any], settings: StudySettings) -> str:
    """Each combination: a step's energy, time and memory, affordable steps, and if it fits."""
    rows = content["schedules"]
    lines = [
        f"{'combination':24s} {'mJ/step':>15s} {'ms/step':>9s} {'MiB':>6s} {'steps':>13s}  status"
    ]
    chosen = content.get("candidates")
    for one in settings.combinations:
        if any(stage.name not in rows for stage in one.stages):
            continue
        low, high = costs(one, rows)
        times = [rows[stage.name]["time_ns"] / 1e6 for stage in one.stages]
        memory = memory_of(one, rows)
        fewest, most = (affordable(settings.energy_pj, cost) for cost in (high, low))
        status = "fits"
        if not fits(one, rows, settings):
            status = f"infeasible: {(memory - settings.memory_bytes) / MIB:.2f} MiB over"
        elif chosen is not None:
            status = "candidate" if one.name in chosen else "dominated before training"
        lines.append(
            f"{one.name:24s} {_span(low / 1e9, high / 1e9, '.1f'):>15s} "
            f"{_span(min(times), max(times), '.0f'):>9s} {memory / MIB:6.1f} "
            f"{_span(fewest, most, 'd'):>13s}  {status}"
        )
    return "\n".join(lines)


def report(content: Mapping[str, Any]) -> str:
    """The trained part of a study as Markdown; :data:`NOT_TRAINED` where there is none."""
    if not content.get("trainings"):
        return NOT_TRAINED
    parts = [
        "\n".join(_circumstances(content)),
        "\n".join(_front(content)),
        "\n".join(_everywhere(content)),
        "\n".join(_at_the_best(content)),
        "\n".join(_split(content)),
    ]
    return "\n\n".join(part for part in parts if part)


def renew(page: Path, content: Mapping[str, Any]) -> None:
    """Put the report between the marks of a page.

    Raises
    ------
    ConfigError
        The page lacks the marks.
    """
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"page: {page} lacks {BEGIN} and {END}; put both on lines of their own")
    write_atomic(page, f"{head}{BEGIN}\n{report(content)}\n{END}{tail}")


def _circumstances(content: Mapping[str, Any]) -> Iterator[str]:
    made = content["identity"]
    noise, freedom = noise_points(content, max(one.rung_pj for one in all_tested(content)))
    yield (
        f"{made['dataset']} on {made['device']}, batch {made['batch']}, "
        f"{made['energy_j']:g} J for a training, {made['memory_mib']:g} MiB, rate "
        f"{made['rate']:g} after {made['warmup']} steps; {len(content['trainings'])} trainings of "
        f"{len({name.rpartition('-seed')[0] for name in content['trainings']})} combinations. "
        + (
            f"At the end a training scatters by {noise:.2f} points between seeds "
            f"({freedom} degrees of freedom)."
            if freedom
            else "One seed each so far: no spread is known."
        )
    )
    lost = [name for name, kept in content["trainings"].items() if kept["diverged"]]
    if lost:
        yield (
            f"Diverged, and no further trained: {', '.join(lost)}. From then on they count as they "
            "were tested, at chance, are marked, and are not on the front."
        )
    idle = [
        name
        for name, kept in content["trainings"].items()
        if "-switch-" in name and not kept["switched"]
    ]
    if idle:
        yield f"The rule of precision switching has not switched in {len(idle)} trainings."
    yield "Energies are simulated; accuracies are of real trainings."


def _front(content: Mapping[str, Any]) -> Iterator[str]:
    yield "The front, chosen by validation images, with what test images then say:"
    yield ""
    yield "| energy | combination | steps | validation, % | test, % | seeds |"
    yield "|---|---|---|---|---|---|"
    for one in front(all_tested(content)):
        yield (
            f"| {joules(one.rung_pj)} | {one.combination.name} | {one.steps:,} | "
            f"{100 * one.validation:.2f} | {100 * one.accuracy:.2f} | {len(one.accuracies)} |"
        )


def _everywhere(content: Mapping[str, Any]) -> Iterator[str]:
    gains = gains_everywhere(content)
    if not gains:
        return
    yield "Over all pairs of trainings that differ in one technique, at equal energy:"
    yield ""
    yield "| energy | technique | points | pairs | helped | most with | least with |"
    yield "|---|---|---|---|---|---|---|"
    for gain in gains:
        yield (
            f"| {joules(gain.rung_pj)} | {REMOVABLE[gain.technique]} | {_points(gain)} | "
            f"{gain.pairs}{_marked(gain)} | {gain.helped} | {gain.most} | {gain.least} |"
        )
    yield ""
    yield from _sentences(gains, "over these pairs")


def _at_the_best(content: Mapping[str, Any]) -> Iterator[str]:
    gains = gains_at_the_best(content)
    if not gains:
        return
    best = content["best"]
    yield f"The best combination by validation images is **{best}**. At equal energy:"
    yield ""
    yield "| energy | technique | there | points that it brings | verdict |"
    yield "|---|---|---|---|---|"
    for gain in gains:
        how = "removed" if gain.most == best else "added"
        yield (
            f"| {joules(gain.rung_pj)} | {REMOVABLE[gain.technique]} | {how} | {_points(gain)} | "
            f"{gain.verdict}{_marked(gain)} |"
        )
    yield ""
    yield from _sentences(gains, f"in {best}")
    missing = set(REMOVABLE) - {gain.technique for gain in gains}
    for technique in sorted(missing):
        yield (
            f"- {REMOVABLE[technique]}: the combination beside it is beyond the memory budget, or "
            "not in this study."
        )


def _sentences(gains: Sequence[Gain], where: str) -> Iterator[str]:
    """For each technique: at which energies it earns its place, costs, or nothing is shown."""
    for technique, name in REMOVABLE.items():
        mine = [gain for gain in gains if gain.technique == technique]
        if not mine:
            continue
        parts = [
            f"{what} at {', '.join(joules(gain.rung_pj) for gain in found)}"
            for verdict, what in (
                ("earns", "earns its place"),
                ("costs", "costs accuracy"),
                ("open", "shows nothing beyond the noise"),
            )
            if (found := [gain for gain in mine if gain.verdict == verdict])
        ]
        yield f"- {name} {where}: {'; '.join(parts)}."


def _split(content: Mapping[str, Any]) -> Iterator[str]:
    rows = list(split_savings(content))
    both = [(kernels, share) for _, kernels, share, only in rows if not only]
    alone = [one.name for one, _, _, only in rows if only]
    made = [share for kernels, share in both if kernels]
    if both:
        yield (
            f"Of {len(both)} searches that may split batches and fit the memory budget either way, "
            f"{len(made)} split a kernel. The others differ from those that may not by chance."
        )
    if made:
        yield (
            f"Where there are micro-batches they save {100 * min(made):.1f} to "
            f"{100 * max(made):.1f} % of a step's energy."
        )
    if alone:
        yield f"Only with them within the memory budget: {', '.join(alone)}."


def _marked(gain: Gain) -> str:
    return f" ({gain.diverged} diverged)" if gain.diverged else ""


def _points(gain: Gain) -> str:
    half = "" if gain.half_width is None else f" +- {gain.half_width:.2f}"
    return f"{gain.points:+.2f}{half}"


def _span(low: float, high: float, form: str) -> str:
    first, last = format(low, form), format(high, form)
    return first if first == last else f"{first}-{last}"
