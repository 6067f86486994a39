"""How the batch evaluator is compiled: its functions call each other, and the engine, across files.

Numba's cache of a function notices changes in that function's own file alone. Here the stamp of
each cached function covers every file that compiled code comes from, or takes constants from.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from sim.engines.jit import inlined, stamped

__all__ = ["compiled", "inlined"]

_SIM = Path(__file__).parent.parent
_SOURCES = ("encoding/*.py", "engines/*.py", "aspects/*.py", "dispatch.py", "reuse.py")


@cache
def _stamp() -> str:
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for path in sorted(_SIM.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


compiled = stamped(_stamp())
