"""Compiled moves of schedules: a neighbour of each row, into an array that the caller holds.

Random numbers come in as words below 2**32, so that they are NumPy's and not Numba's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.encoding import Genes
from sim.engines.jit import compiled, inlined

I64 = NDArray[np.int64]
TRIES = 3
WORDS = 6
"""Words that one try of a move uses, after the one that picks its kind."""
DRAWS = 1 + TRIES * WORDS
"""Random words per move."""
LONGEST_RUN_BITS = 4
REACH = 8
"""How far apart in the order two kernels may be that are swapped, copied or share a cut."""

ALONE, FAMILY, LAYER, RUN, SWAP, COPY, CUT, SHIFT, STEP = range(9)
KINDS = 9


@inlined
def _pick(word: int, bound: int) -> int:
    return (word * bound) >> 32


@compiled
def schedule_moves(
    current: Genes,
    chain: I64,
    orders: I64,
    order_ptr: I64,
    draws: I64,
    odds: I64,
    column: I64,
    cut: I64,
    choice: I64,
    unit_of: I64,
    wide: I64,
    fine: int,
    dsp: I64,
    member_ptr: I64,
    members: I64,
    step: I64,
    counts: I64,
    out: Genes,
) -> None:
    """Write a neighbour of row ``chain[n]`` of ``current`` to row ``n`` of ``out``.

    ``orders[order_ptr[c]:order_ptr[c + 1]]`` are the kernels of row ``c`` that exist; ``odds``
    holds running sums of the weights of the kinds; the tables are those of
    :class:`experiments.search.moves.Moves`. A row whose every try is in vain is left as it was.
    """
    for n in range(len(chain)):
        c = chain[n]
        row, words = out[n], draws[n]
        for g in range(row.shape[0]):
            row[g] = current[c, g]
        first, size = order_ptr[c], order_ptr[c + 1] - order_ptr[c]
        picked, kind = _pick(words[0], odds[KINDS - 1]), 0
        while odds[kind] <= picked:
            kind += 1
        for attempt in range(TRIES):
            w = 1 + attempt * WORDS
            changed = False
            if kind == STEP:
                gene = step[_pick(words[w], len(step))]
                value = _pick(words[w + 1], counts[gene])
                changed = row[gene] != value
                row[gene] = value
            else:
                place = _pick(words[w], size)
                k = orders[first + place]
                near = place + 1 + _pick(words[w + 1], REACH)
                if near >= size:
                    near = place - 1 - _pick(words[w + 1], min(REACH, max(place, 1)))
                other = orders[first + max(near, 0)]
                unit = wide[_pick(words[w + 2], len(wide))]
                if _pick(words[w + 3], fine) == 0:
                    unit = _pick(words[w + 4], choice.shape[1])
                if kind == RUN:
                    bits, length = words[w + 5], 2
                    while bits & 1 and length < 2 << LONGEST_RUN_BITS:
                        length, bits = length * 2, bits >> 1
                    for p in range(place, min(place + length, size)):
                        changed |= _put(row, column, choice, orders[first + p], unit)
                elif kind == SWAP:
                    if _pick(words[w + 5], 2):
                        other = orders[first + _pick(words[w + 1], size)]
                    here, there = unit_of[k, row[column[k]]], unit_of[other, row[column[other]]]
                    for m in range(member_ptr[FAMILY, k], member_ptr[FAMILY, k + 1]):
                        changed |= _put(row, column, choice, members[m], there)
                    for m in range(member_ptr[FAMILY, other], member_ptr[FAMILY, other + 1]):
                        changed |= _put(row, column, choice, members[m], here)
                elif kind == COPY:
                    there = unit_of[other, row[column[other]]]
                    changed = _put(row, column, choice, k, there)
                elif kind in (CUT, SHIFT):
                    for p in range(size):
                        k = orders[first + (place + p) % size]
                        on = cut[k] >= 0 and dsp[unit_of[k, row[column[k]]]] == 1
                        if on and (kind == CUT or row[cut[k]] == 1):
                            row[cut[k]] = 1 - row[cut[k]]
                            if kind == SHIFT and cut[other] >= 0:
                                row[cut[other]] = 1
                            changed = True
                            break
                    kind = CUT  # without a cut to shift, the next try makes one
                else:
                    for m in range(member_ptr[kind, k], member_ptr[kind, k + 1]):
                        changed |= _put(row, column, choice, members[m], unit)
            if changed:
                break


@inlined
def _put(row: Genes, column: I64, choice: I64, kernel: int, unit: int) -> bool:
    """Place a kernel on a unit that it has a choice for; whether that changed anything."""
    value = choice[kernel, unit]
    if value < 0 or row[column[kernel]] == value:
        return False
    row[column[kernel]] = value
    return True
