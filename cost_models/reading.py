"""Reading files of a person: whole, of bounded size, and regular.

A pipe or a device would block or never end, and a size on disk may lie, so both are checked on what
is actually read.
"""

from __future__ import annotations

from pathlib import Path


def read_bytes(path: Path, limit: int, error: type[ValueError]) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Parameters
    ----------
    path
        A regular file, or a link to one.
    limit
        Largest size that is accepted, bytes.
    error
        Raised, on one line, for anything that cannot be read.

    Examples
    --------
    >>> read_bytes(Path("/dev/zero"), 100, ValueError)
    Traceback (most recent call last):
    ValueError: /dev/zero: cannot be read (not a regular file); give the path of a file
    """
    name = str(path) if str(path).isprintable() else ascii(str(path))
    try:
        if path.exists() and not path.is_file():
            raise error(f"{name}: cannot be read (not a regular file); give the path of a file")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as cause:
        raise error(f"{name}: cannot be read ({cause.strerror}); check the path") from None
    except ValueError as cause:  # a NUL in the path, which no file system allows
        if isinstance(cause, error) and type(cause) is not ValueError:
            raise
        raise error(f"{name}: cannot be read ({cause}); check the path") from None
    if len(content) > limit:
        raise error(f"{name}: more than {limit} bytes, which is the limit; shorten it")
    return content
