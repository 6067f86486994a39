"""Exact INT8 fully connected layer, forward and backward: a 1x1 convolution over one position.

Activations and errors are ``(n, features)``, weights and their gradients ``(c_out, c_in)``. See
:mod:`kernels.int8.conv` for what is stored, and for what is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import check_array
from kernels.int8.conv import conv_forward, conv_input_grad, conv_weight_grad
from kernels.int8.stored import Store, Stored, stored_dtype
from kernels.linear import Linear

Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]


def _map(table: NDArray[Any]) -> NDArray[Any]:
    """A table (n, c), already checked, as a map (n, 1, 1, c) of the same memory."""
    return table.reshape(len(table), 1, 1, -1)


def _flat(stored: Stored) -> Stored:
    table = stored.values.reshape(len(stored.values), -1)
    return Stored(table, stored.amax, stored.saturated, stored.lost)


def linear_forward(
    x: Int8s,
    w: Int8s,
    op: Linear,
    *,
    bias: Int32s | None = None,
    store: Store | None = None,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Stored:
    """``y = x w^T + bias``, exactly.

    Parameters
    ----------
    x
        (n, c_in) int8.
    w
        (c_out, c_in) int8.
    op
        Sizes.
    bias, store, backend, threads
        As for :func:`kernels.int8.conv.conv_forward`.
    out
        (n, c_out) to write to: int8 with a ``store``, int32 without.

    Raises
    ------
    ArrayError, GemmError
        As :func:`kernels.int8.conv.conv_forward`.

    Examples
    --------
    >>> x, w = np.array([[1, -128]], np.int8), np.array([[3, 2], [0, -128]], np.int8)
    >>> linear_forward(x, w, Linear(n=1, c_in=2, c_out=2)).values
    array([[ -253, 16384]], dtype=int32)
    """
    check_array("x", x, np.int8, shape=(op.n, op.c_in))
    check_array("w", w, np.int8, shape=(op.c_out, op.c_in))
    _check_out(out, store, (op.n, op.c_out))
    return _flat(
        conv_forward(
            _map(x), _map(w), op.as_conv(),
            bias=bias, store=store, out=None if out is None else _map(out),
            backend=backend, threads=threads,
        )
    )  # fmt: skip


def linear_input_grad(
    e: Int8s,
    w: Int8s,
    op: Linear,
    *,
    store: Store | None = None,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Stored:
    """dX = ``e w``, exactly: (n, c_in) from ``e`` (n, c_out). See :func:`linear_forward`."""
    check_array("e", e, np.int8, shape=(op.n, op.c_out))
    check_array("w", w, np.int8, shape=(op.c_out, op.c_in))
    _check_out(out, store, (op.n, op.c_in))
    return _flat(
        conv_input_grad(
            _map(e), _map(w), op.as_conv(),
            store=store, out=None if out is None else _map(out), backend=backend, threads=threads,
        )
    )  # fmt: skip


def linear_weight_grad(
    x: Int8s,
    e: Int8s,
    op: Linear,
    *,
    into: NDArray[Any] | None = None,
    out: NDArray[Any] | None = None,
    wide: bool | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Stored:
    """dW = ``e^T x``, (c_out, c_in), added to ``into`` or written to ``out`` if given.

    See :func:`kernels.int8.conv.conv_weight_grad`.
    """
    check_array("x", x, np.int8, shape=(op.n, op.c_in))
    check_array("e", e, np.int8, shape=(op.n, op.c_out))
    for name, total in (("into", into), ("out", out)):
        if total is not None:
            check_array(name, total, np.int32, np.int64, shape=(op.c_out, op.c_in))
    return _flat(
        conv_weight_grad(
            _map(x), _map(e), op.as_conv(),
            into=None if into is None else _map(into), out=None if out is None else _map(out),
            wide=wide, backend=backend, threads=threads,
        )
    )  # fmt: skip


def _check_out(out: NDArray[Any] | None, store: Store | None, shape: tuple[int, ...]) -> None:
    if out is not None:
        check_array("out", out, stored_dtype(store), shape=shape)
