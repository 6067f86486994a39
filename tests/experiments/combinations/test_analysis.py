"""What a study of combinations says: its front, what each technique earns, what diverged."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.combinations.analysis import (
    all_tested,
    front,
    gains_at_the_best,
    gains_everywhere,
    noise_points,
)
from experiments.combinations.drawn import draw
from experiments.combinations.settings import StudySettings
from experiments.combinations.shown import report

Content = dict[str, Any]


def made_up(
    accuracies: dict[tuple[str, int], tuple[float, ...]],
    best: str,
    validations: dict[tuple[str, int], float] | None = None,
    lost: tuple[str, ...] = (),
) -> Content:
    """A result with these test accuracies by (combination, rung) and seed.

    Validation accuracies are those of the test where no other one is given. The trainings in
    ``lost`` diverged on the way to the last rung.
    """
    trainings: Content = {}
    for (name, rung), found in accuracies.items():
        for seed, accuracy in enumerate(found):
            title, steps = f"{name}-seed{seed}", rung // 10**11
            kept = trainings.setdefault(
                title, {"tested": {}, "diverged": title in lost, "switched": []}
            )
            kept["steps"] = steps
            kept["tested"][str(rung)] = {
                "accuracy": accuracy,
                "validation": (validations or {}).get((name, rung), accuracy),
                "energy_pj": rung,
                "steps": steps,
            }
    return {
        "trainings": trainings,
        "best": best,
        "schedules": {},
        "identity": StudySettings().as_json(),
    }


JOULE = 10**12
EXACT, ROUGH, NARROW = "w100-int8-exact-split", "w100-int8-r2-split", "w25-int8-r2-split"


def test_the_front_is_what_no_cheaper_training_reaches() -> None:
    content = made_up(
        {
            (EXACT, JOULE): (0.3,),
            (ROUGH, JOULE): (0.4,),
            (EXACT, 2 * JOULE): (0.5,),
            (ROUGH, 2 * JOULE): (0.39,),
        },
        EXACT,
    )
    found = [(one.combination.name, one.rung_pj) for one in front(all_tested(content))]
    assert found == [(ROUGH, JOULE), (EXACT, 2 * JOULE)]


def test_the_front_is_chosen_by_validation_images_and_shows_test_images() -> None:
    content = made_up(
        {(EXACT, JOULE): (0.30,), (ROUGH, JOULE): (0.35,)},
        EXACT,
        {(EXACT, JOULE): 0.40, (ROUGH, JOULE): 0.39},
    )
    (one,) = front(all_tested(content))
    assert (one.combination.name, one.validation, one.accuracy) == (EXACT, 0.40, 0.30)
    assert f"| 1 J | {EXACT} | 10 | 40.00 | 30.00 | 1 |" in report(content)


def test_a_training_that_diverged_is_marked_from_there_on_and_not_on_the_front() -> None:
    content = made_up(
        {
            (EXACT, JOULE): (0.3, 0.3),
            (EXACT, 2 * JOULE): (0.4, 0.4),
            (ROUGH, JOULE): (0.5, 0.5),
            (ROUGH, 2 * JOULE): (0.6, 0.1),
        },
        ROUGH,
        lost=(f"{ROUGH}-seed1",),
    )
    tested = {(one.combination.name, one.rung_pj): one for one in all_tested(content)}
    assert {key for key, one in tested.items() if one.diverged} == {(ROUGH, 2 * JOULE)}
    found = [(one.combination.name, one.rung_pj) for one in front(tuple(tested.values()))]
    assert found == [(ROUGH, JOULE)]  # of 30 % and 40 % beside it none is better
    assert [gain.diverged for gain in gains_at_the_best(content)] == [0, 1]
    assert [gain.diverged for gain in gains_everywhere(content)] == [0, 0]  # of first seeds
    text = report(content)
    assert f"no further trained: {ROUGH}-seed1. From then on" in text
    assert "open (1 diverged)" in text
    pytest.importorskip("matplotlib")
    assert b">diverged<" in draw(content)


def test_a_technique_earns_its_place_only_beyond_the_noise() -> None:
    clear = made_up({(ROUGH, JOULE): (0.5, 0.51), (EXACT, JOULE): (0.3, 0.31)}, ROUGH)
    (gain,) = gains_at_the_best(clear)
    assert (gain.technique, gain.verdict) == ("filter", "earns")
    assert gain.points == pytest.approx(20)
    noise, freedom = noise_points(clear, JOULE)
    assert (noise, freedom) == (pytest.approx(0.7071, abs=1e-4), 2)
    assert gain.half_width == pytest.approx(4.3027 * noise, rel=1e-4)
    added = gains_at_the_best({**clear, "best": EXACT})[0]
    assert (added.points, added.most) == (pytest.approx(gain.points), ROUGH)
    wide = made_up({(ROUGH, JOULE): (0.5, 0.3), (EXACT, JOULE): (0.3, 0.31)}, ROUGH)
    assert gains_at_the_best(wide)[0].verdict == "open"
    alone = made_up({(ROUGH, JOULE): (0.5,), (EXACT, JOULE): (0.3,)}, ROUGH)
    assert gains_at_the_best(alone)[0].half_width is None
    (pair,) = gains_everywhere(alone)
    assert (pair.points, pair.pairs, pair.helped) == (pytest.approx(20), 1, 1)
    worse = made_up({(ROUGH, JOULE): (0.3, 0.31), (NARROW, JOULE): (0.1, 0.11)}, NARROW)
    assert [(g.technique, g.verdict) for g in gains_at_the_best(worse)] == [("width", "costs")]
