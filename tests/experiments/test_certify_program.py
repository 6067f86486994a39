"""The linear program: bounds that are safe whatever the solver said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import milp

from experiments.certify.program import Program


def drawn_program(seed: int) -> Program:
    """A covering program with large and small coefficients; all variables at their top solve it."""
    draws = np.random.default_rng(seed)
    program = Program()
    for _ in range(12):
        program.variable(int(draws.choice([1, 10**9])), int(draws.integers(1, 10**6)))
    for _ in range(20):
        columns = draws.choice(12, 4, replace=False).tolist()
        terms = [(c, int(draws.integers(1, 10**8))) for c in columns]
        most = sum(value * program.box[column] for column, value in terms)
        program.at_least(terms, int(most * draws.uniform(0.1, 0.9)))
    return program


@pytest.mark.parametrize("seed", range(10))
def test_a_safe_bound_is_just_below_the_optimum(seed: int) -> None:
    program = drawn_program(seed)
    solution = program.solve()
    optimum = float(np.array(program.cost) @ solution.point)
    bound = program.safe_bound(solution.multipliers)
    assert bound <= optimum * (1 + 1e-9) + 1
    assert bound >= optimum * (1 - 1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_any_multipliers_give_a_bound(seed: int) -> None:
    program = drawn_program(seed)
    top = np.array(program.box, dtype=object)
    draws = np.random.default_rng(seed + 100)
    for scale in (0.0, 1e-6, 1e-3):
        bound = program.safe_bound(draws.random(len(program.least)) * scale)
        assert bound <= int(np.array(program.cost, dtype=object) @ top)
        assert bound <= float(np.array(program.cost) @ program.solve().point) * (1 + 1e-9) + 1


def test_an_equal_row_binds_from_both_sides() -> None:
    program = Program()
    x, y = program.variable(10, cost=2), program.variable(10, cost=-1)
    program.equal([(x, 1), (y, -1)], 3)
    solution = program.solve()
    assert solution.point[x] - solution.point[y] == pytest.approx(3)
    assert program.safe_bound(solution.multipliers) == pytest.approx(6, abs=1)


def test_a_program_without_solution_is_told() -> None:
    program = Program()
    program.at_least([(program.variable(1, cost=1), 1)], 2)
    with pytest.raises(ArithmeticError, match="linear program"):
        program.solve()


def test_the_bound_is_that_of_whole_choices_or_less() -> None:
    program = Program()
    columns = [program.variable(1, cost) for cost in (5, 4, 3)]
    program.at_least([(c, v) for c, v in zip(columns, (2, 3, 1), strict=True)], 3)
    exact = milp(
        np.array(program.cost),
        constraints=(np.array([[2, 3, 1]]), 3, np.inf),
        bounds=(0, 1),
        integrality=np.ones(3),
    ).fun
    assert program.safe_bound(program.solve().multipliers) <= exact
