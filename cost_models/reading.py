"""Reading a person's files: regular ones, whole, up to a limit.

A pipe or a device would block or never end, and the size that a file system states may be wrong, so
the limit holds for what is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PIECE_BYTES = 1 << 20


def read_bytes(path: Path, limit: int, error: type[ValueError]) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Parameters
    ----------
    path
        A regular file, or a link to one.
    limit
        Largest accepted size, bytes.
    error
        Raised, on one line, for what is missing, closed, not regular or too large.

    Examples
    --------
    >>> read_bytes(Path("/dev/zero"), 100, ValueError)
    Traceback (most recent call last):
    ValueError: /dev/zero: cannot be read (not a regular file); give the path of a file
    """
    name = str(path) if str(path).isprintable() else ascii(str(path))
    try:
        odd = path.exists() and not path.is_file()
        large = not odd and path.stat().st_size > limit  # then nothing of it need be read
        content = b"" if odd or large else _head(path, limit + 1)
    except OSError as cause:
        raise error(f"{name}: cannot be read ({cause.strerror}); check the path") from None
    except ValueError as cause:  # NUL or a lone surrogate, which no path can have
        raise error(f"{name}: cannot be read ({cause}); check the path") from None
    if odd:
        raise error(f"{name}: cannot be read (not a regular file); give the path of a file")
    if large or len(content) > limit:
        raise error(f"{name}: is too large; at most {limit} bytes are allowed: shorten it")
    return content


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object of its pairs, as ``object_pairs_hook``; a key that stands twice is none.

    >>> json.loads('{"a": 1, "a": 2}', object_pairs_hook=each_key_once)
    Traceback (most recent call last):
    json.decoder.JSONDecodeError: key 'a' stands twice: line 1 column 1 (char 0)
    """
    known = dict(pairs)
    if len(known) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise json.JSONDecodeError(f"key {twice!r} stands twice", "", 0)
    return known


def _head(path: Path, size: int) -> bytes:
    """Read piece by piece: asking for ``size`` at once would set that much memory aside."""
    pieces: list[bytes] = []
    with path.open("rb") as file:
        while size > 0 and (piece := file.read(min(size, PIECE_BYTES))):
            pieces.append(piece)
            size -= len(piece)
    return b"".join(pieces)
