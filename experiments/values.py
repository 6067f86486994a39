"""Values that come in from outside, and errors about them: told in a few words, and apart."""

from __future__ import annotations

import sys
from operator import index
from reprlib import Repr

LONGEST = 60
"""Characters of a value in a message, at most."""
MOST_BITS = 1 << 12
"""Integers above are told by their size: writing them out takes long, or Python refuses to."""

OWN_PACKAGES = frozenset({"kernels", "cost_models", "sim", "hw_bridge", "experiments"})

_REPR = Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxlong, _REPR.maxother = 2, 40, 40, 40


def short(value: object) -> str:
    """Return a value as Python writes it, cut where it is long, wide or deep; one line.

    Examples
    --------
    >>> short("spam"), short([1] * 99), short(10**400), short(1 << 10**6)
    ("'spam'", '[1, 1, 1, 1, 1, 1, ...]', '100000000000000000...0000000000000000000', \
'an integer of 1000001 bits')
    """
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = " ".join(_REPR.repr(value).split())
    except ValueError:  # a long integer within
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def whole(value: object, low: int, high: int) -> int | None:
    """Return an integer from ``low`` to ``high``, Python's or NumPy's, as Python's; else None.

    A bool is none: it is more often a slip than a number.

    Examples
    --------
    >>> whole(3, 1, 5), whole(9, 1, 5), whole(True, 0, 1), whole(3.0, 1, 5), whole("3", 1, 5)
    (3, None, None, None, None)
    """
    if isinstance(value, bool):
        return None
    try:
        number = index(value)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        return None
    return number if low <= number <= high else None


def is_own(error: BaseException) -> bool:
    """Whether an error is one that this project raises on bad input, told in one line."""
    module = type(error).__module__
    if module == "__main__":  # of a module of ours, where python -m runs it
        spec = getattr(sys.modules[module], "__spec__", None)
        module = spec.name if spec is not None else ""
    return isinstance(error, ValueError) and module.split(".")[0] in OWN_PACKAGES
