"""Fine-tuning as it was trained: accuracy of each case, and the orders that are published."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean, stdev
from typing import Any, Final

from experiments import finetune, finetune_cases
from experiments.finetune_cases import Case
from experiments.reproduce.kept import EVERY, Kept, read_kept
from experiments.reproduce.study import Check, Row

OURS: Final = "no published value: trained here"
ORDERS: Final = "Yang et al., CVPR 2023 (arXiv 2301.00330), section 4 (an order, no value)"
PUBLISHED_POINTS: Final = {
    (Case(4, 1), Case(4, 2)): 0.5,
    (Case(4, 2), Case(4, 4)): 0.6,
    (Case(4, 2, "int8"), Case(4, 2)): -0.2,
}
"""Tables 11 and 12: the same pairs of ResNet-18 on CIFAR-10, its last 4 layers, 50 epochs."""


def kept_runs() -> Kept:
    """The fine-tuning study's figures."""
    return read_kept(finetune.RESULT, finetune.COMMAND)


def trained_rows(kept: Kept) -> tuple[Row, ...]:
    """Rows of what was trained so far; none where nothing was."""
    if not kept.content.get("runs"):
        return ()
    kept.check_numbers("runs", EVERY, "accuracy")
    with kept.reading():
        return (*_accuracy_rows(kept.content), *_order_rows(kept.content))


def order_checks(kept: Kept) -> tuple[Check, ...]:
    """No published order may be contradicted beyond chance; nothing where none was trained yet."""
    with kept.reading():
        verdicts = [each["verdict"] for each in finetune_cases.comparisons(kept.content)]
    if not verdicts:
        return ()
    label = f"published orders of accuracy, contradicted (of {len(verdicts)} trained)"
    return (Check(label, verdicts.count("contradicted"), 0),)


def _accuracy_rows(content: dict[str, Any]) -> Iterator[Row]:
    for name, members in finetune_cases.by_case(content).items():
        tested = [100 * run["accuracy"] for run in members]
        spread = f", deviation {stdev(tested):.2f}" if len(tested) > 1 else ""
        note = f"{len(tested)} seed{'s' if len(tested) > 1 else ''}{spread}"
        yield Row(name, None, mean(tested), False, OURS, "%", _group(content), note=note)


def _group(content: dict[str, Any]) -> str:
    budget = content["budget"]
    return f"test accuracy, {budget['model']} fine-tuned on {budget['dataset']}"


def _order_rows(content: dict[str, Any]) -> Iterator[Row]:
    cases = {case.name: case for case in finetune_cases.CASES}
    for each in finetune_cases.comparisons(content):
        half = each["half_width"]
        interval = "one seed" if half is None else f"+- {half:.2f} (95 %)"
        first, second = (cases[finetune_cases.case_of(each[name])] for name in ("first", "second"))
        published = PUBLISHED_POINTS.get((first, second))
        other = "" if published is None else f"; of ResNet-18 published: {published:+.1f}"
        yield Row(
            f"{each['question']}: {each['first']} less {each['second']}", None, each["points"],
            False, ORDERS, "points", "published orders of accuracy",
            note=f"{interval}, asked at least {each['least']:g}: {each['verdict']}{other}",
        )  # fmt: skip
