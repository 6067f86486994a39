"""How long a study will take on this machine: a few real steps of each plan, then arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from statistics import fmean
from time import process_time

from experiments.combinations.combination import REMOVABLE, Combination, candidates
from experiments.combinations.schedules import affordable, graph_of
from experiments.combinations.study import CombinationStudy, costs, fits
from experiments.dynamic.loops import Data
from sim.numeric.session import TrainingSession
from sim.plan import Plan

WARM_STEPS, TIMED_STEPS = 2, 3


def projected_s(study: CombinationStudy) -> float:
    """CPU time of all trainings, seconds of one core; those done already count as well.

    CPU time, since what else runs on the machine changes it little.
    """
    data = study.images()
    stages = {stage for one in _candidates(study) for stage in one.stages}
    timed = {stage: _step_and_batch_s(study, stage, data) for stage in sorted(stages, key=_name)}
    return total_s(study, timed, len(data.test))


def total_s(
    study: CombinationStudy, timed: Mapping[Combination, tuple[float, float]], test_images: int
) -> float:
    """Seconds of all trainings.

    Which combinations go on is not known: from the second rung on each is taken to last as long
    as the candidates do on average.

    Parameters
    ----------
    timed
        Seconds of a training step, and of classifying a batch, of each candidate's stages.
    test_images
        Images of a test.
    """
    settings, rows = study.settings, study.content["schedules"]
    alive = _candidates(study)

    def to_s(one: Combination, energy_pj: float) -> float:
        """Seconds for so much energy, with the points on the way."""
        points = ceil(settings.points * energy_pj / settings.energy_pj)
        return max(
            affordable(round(energy_pj), rows[stage.name]["energy_pj"]) * timed[stage][0]
            + points * settings.validation / settings.batch * timed[stage][1]
            for stage in one.stages
        )

    test = fmean(max(timed[s][1] for s in one.stages) for one in alive)
    test *= test_images / settings.batch
    whole = fmean(to_s(one, settings.energy_pj) for one in alive)
    total, count, before = 0.0, len(alive), 0.0
    for share in settings.rungs:
        total += count * ((share - before) * whole + test)
        count, before = max(1, ceil(count / settings.keep)), share
    beside = 1 + len(REMOVABLE)
    return total + beside * settings.seeds * (whole + len(settings.rungs) * test)


def _candidates(study: CombinationStudy) -> tuple[Combination, ...]:
    settings, rows = study.settings, study.content["schedules"]
    fitting = [one for one in settings.combinations if fits(one, rows, settings)]
    return candidates({one: costs(one, rows) for one in fitting})


def _name(stage: Combination) -> str:
    return stage.name


def _step_and_batch_s(
    study: CombinationStudy, stage: Combination, data: Data
) -> tuple[float, float]:
    """Seconds of a training step, and of classifying a batch."""
    loop = study.settings.training(study.data, 0, study.threads)
    images, labels = next(iter(data.epoch(loop, 0)))
    session = TrainingSession(
        graph_of(stage, study.settings),
        Plan.read(study.plan_path(stage)),
        study.device,
        threads=study.threads,
    )
    for number in range(WARM_STEPS + TIMED_STEPS):
        if number == WARM_STEPS:
            begin = process_time()
        session.step(images, labels, rate_q24=study.settings.rate_q24(number))
    step = (process_time() - begin) / TIMED_STEPS
    session.executor.predict(images)
    begin = process_time()
    session.executor.predict(images)
    return step, process_time() - begin
