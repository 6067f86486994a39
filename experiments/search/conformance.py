"""A conformance check for searchers: what every searcher must keep to, tried on yours.

Call :func:`check_searcher` in a test of your own::

    from experiments.search.conformance import check_searcher

    def test_my_searcher():
        check_searcher(MySearcher)

It runs the searcher on small spaces with one objective and with several, on made-up values and
with plans beyond a limit, and verifies what :mod:`experiments.search.protocol` promises to
whoever runs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NoReturn

import numpy as np

from cost_models.device import load_device
from experiments.search.ground import space_around
from experiments.search.objectives import SearchError, Values
from experiments.search.protocol import Searcher, SearcherFactory
from experiments.search.shard import checked_batch
from sim.autodiff import training_graph
from sim.encoding import HELD, Genes, Space
from sim.zoo import load_model

SIZES = (1, 7, 64, 1, 513)
"""Plans asked for in turn."""
OBJECTIVE_SETS = (("time",), ("time", "energy"))
SEED = 2022
BEYOND = 1 << 60
"""Value of a plan beyond a limit; one plan in :data:`BEYOND_PARTS` is."""
BEYOND_PARTS = 5


class SearcherConformanceError(AssertionError):
    """A searcher breaks a rule; the message names the searcher, the case and the rule."""


def check_searcher(factory: SearcherFactory, spaces: Iterable[Space] | None = None) -> None:
    """Verify that a searcher may be run by anyone, on any space.

    1. It is a :class:`~experiments.search.protocol.Searcher` whose ``batch`` is 1 or more.
    2. It asks for at most as many plans as it is asked to, however few or many, as int16 rows of
       the space; none only when nothing is left to try, which cannot be at once.
    3. It is deterministic, also while others of its kind run beside it.
    4. It changes neither what it is given nor what it gave.
    5. It copes with starts told first, and with very large values.
    6. It refuses a space or objectives that it cannot search by a ``SearchError``, and not all.

    Parameters
    ----------
    factory
        What makes the searcher from space, starts, seed and objectives: usually its class.
    spaces
        Where to try it; by default that of LeNet and a part of it with 288 plans.

    Raises
    ------
    SearcherConformanceError
        The first rule that is broken, where, and by which value.

    Examples
    --------
    >>> from experiments.search.random_search import RandomSearch
    >>> check_searcher(RandomSearch)
    """
    tried = 0
    for space in default_spaces() if spaces is None else spaces:
        for objectives in OBJECTIVE_SETS:
            case = _Case(factory, space, objectives)
            if case.accepted():
                case.check()
                tried += 1
    if not tried:
        raise SearcherConformanceError(
            f"searcher {_name(factory)} refuses every space and objective; give check_searcher "
            "spaces that it can search"
        )


@lru_cache(maxsize=1)
def default_spaces() -> tuple[Space, ...]:
    """Spaces of LeNet on a Snapdragon 865: everything, and the choices about the step alone."""
    graph, device = training_graph(load_model("lenet", batch=8)), load_device("snapdragon-865")
    whole = space_around(graph, device, HELD)
    step = ("placement", "grouping", "precision", "batch_split", "rescale")
    return whole, space_around(graph, device, (*HELD, *step))


def _name(factory: SearcherFactory) -> str:
    return repr(getattr(factory, "__name__", factory))


class _Case:
    """One searcher in one space with one set of objectives."""

    def __init__(self, factory: SearcherFactory, space: Space, objectives: tuple[str, ...]) -> None:
        self.factory, self.space, self.objectives = factory, space, objectives
        self.starts = np.concatenate([space.random(2, 1), space.encode(space.base)[None]])
        self.weights = np.random.default_rng(SEED).integers(
            0, 1000, size=(len(space.genes), len(objectives))
        )

    def fail(self, what: str) -> NoReturn:
        where = f"{len(self.space.genes)} genes, {' and '.join(self.objectives)}"
        raise SearcherConformanceError(f"searcher {_name(self.factory)} ({where}): {what}")

    def make(self) -> Searcher:
        made = self.factory(self.space, self.starts, SEED, self.objectives)
        if not isinstance(made, Searcher):
            self.fail(f"it makes {made!r}; subclass experiments.search.Searcher")
        return made

    def accepted(self) -> bool:
        """Whether the searcher takes on the case; a refusal must be a SearchError."""
        try:
            batch = self.make().batch
        except SearchError:
            return False
        except SearcherConformanceError:
            raise
        except (Exception, SystemExit) as error:
            self.fail(f"it raised {type(error).__name__} when it was made: {error}")
        try:
            checked_batch(batch)
        except SearchError as error:
            self.fail(str(error))
        return True

    def check(self) -> None:
        """Run it alone, and then two more side by side."""
        (alone,) = self.run([self.make()])
        for other in self.run([self.make(), self.make()]):
            for number, (one, two) in enumerate(zip(alone, other, strict=True)):
                if not np.array_equal(one, two):
                    self.fail(
                        f"it is not deterministic: at ask number {number + 1} another run of the "
                        "same seed and values wanted other plans; draw from the seed alone, and "
                        "keep all state in the searcher"
                    )

    def run(self, searchers: Sequence[Searcher]) -> list[list[Genes]]:
        """Return what each searcher asked for, taking turns."""
        asked: list[list[Genes]] = [[] for _ in searchers]
        given = [self.starts] * len(searchers)
        for searcher in searchers:
            self.guarded(searcher, "begin", sum(SIZES), 0)
            self.told(searcher, self.starts)
        for size in SIZES:
            for k, searcher in enumerate(searchers):
                before = given[k].copy()
                batch = self.guarded(searcher, "ask", size)
                if not np.array_equal(before, given[k]):
                    self.fail("it changed plans that it had handed out; return a new array")
                self.check_batch(batch, size, first=not asked[k])
                given[k] = batch
                asked[k].append(batch.copy())
                self.told(searcher, batch)
        return asked

    def told(self, searcher: Searcher, batch: Genes) -> None:
        """Tell values, and make sure that nothing was changed."""
        rows, starts, values = batch.copy(), self.starts.copy(), self.values(batch)
        kept = values.copy()
        self.guarded(searcher, "tell", batch, values)
        for what, one, two in (
            ("the plans it was told", rows, batch),
            ("the values it was told", kept, values),
            ("the starts", starts, self.starts),
        ):
            if not np.array_equal(one, two):
                self.fail(f"tell changed {what}; copy what you change")

    def values(self, batch: Genes) -> Values:
        """Made-up values: sums over genes, and some plans beyond a limit."""
        sums = np.asarray(batch.astype(np.int64) @ self.weights, dtype=np.int64)
        sums[sums[:, 0] % BEYOND_PARTS == 1] = BEYOND
        return sums

    def guarded(self, searcher: Searcher, method: str, *arguments: object) -> Genes:
        """Call a method; an exception breaks the rules."""
        try:
            result: Genes = getattr(searcher, method)(*arguments)
        except (Exception, SystemExit) as error:
            told = "" if method == "tell" else ", ".join(map(str, arguments))
            self.fail(f"{method}({told}) raised {type(error).__name__}: {error}")
        return result

    def check_batch(self, batch: object, size: int, *, first: bool) -> None:
        genes = len(self.space.genes)
        if not isinstance(batch, np.ndarray) or batch.dtype != np.int16 or batch.ndim != 2:
            told = getattr(batch, "dtype", type(batch).__name__)
            self.fail(f"ask({size}) returned {told}; return int16 of shape (plans, {genes})")
        if batch.shape[1] != genes:
            self.fail(f"ask({size}) returned shape {batch.shape}; a plan has {genes} genes")
        if len(batch) > size:
            self.fail(f"ask({size}) returned {len(batch)} plans; return at most {size}")
        if first and not len(batch):
            self.fail(f"ask({size}) returned no plan at once; that ends the search")
        bad = np.argwhere((batch < 0) | (batch >= self.space.counts))
        if len(bad):
            row, place = bad[0]
            gene = self.space.genes[place]
            self.fail(
                f"ask({size}) returned {int(batch[row, place])} for {gene.aspect}.{gene.subject}; "
                f"allowed: 0 to {len(gene.choices) - 1}, an index into its choices"
            )
