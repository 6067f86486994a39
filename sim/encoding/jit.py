"""How the batch evaluator is compiled: its functions call each other, and the engine, across files.

Numba's cache of a function notices changes in that function's own file alone. Here the stamp of
each cached function covers every file of this floor: compiled code takes constants from many.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from sim.engines.jit import inlined, stamped

__all__ = ["HASH_PRIME", "compiled", "inlined"]

HASH_PRIME = 1_099_511_628_211
"""Of the FNV hash."""

_SIM = Path(__file__).parent.parent


@cache
def _stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(_SIM.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


compiled = stamped(_stamp())
