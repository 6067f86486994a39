"""Hypothesis strategies for models, for tests of policies and cost models; needs ``hypothesis``.

Install it with ``pip install 'mandheling-sandbox[test]'``. Nothing else imports this module.
"""

from __future__ import annotations

from hypothesis import strategies as st

from sim.model import INPUT, ForwardModel, ModelBuilder


@st.composite
def forward_models(
    draw: st.DrawFn, max_batch: int = 4, max_image: int = 12, max_blocks: int = 6
) -> ForwardModel:
    """Small valid classifiers with branches that are summed and joined.

    Parameters
    ----------
    max_batch, max_image
        Largest batch, and rows and columns of the images (at least 4).
    max_blocks
        Most blocks (1 or more) between images and classifier: convolutions of every sort,
        pooling, batch norm, activations, dropout, residual sums, joins.

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(forward_models())
    ... def test_my_policy(model): ...
    """
    batch = draw(st.integers(1, max_batch))
    size = draw(st.integers(4, max_image))
    shape = (batch, draw(st.integers(1, 4)), size, size)
    b = ModelBuilder("drawn", shape, source="sim.testing.forward_models")
    x = INPUT
    for _ in range(draw(st.integers(1, max_blocks))):
        x = draw(st.sampled_from(_BLOCKS))(draw, b, x)
    if draw(st.booleans()):
        x = b.global_avg_pool(x)
    x = b.flatten(x)
    if draw(st.booleans()):
        x = b.relu(b.linear(x, draw(st.integers(1, 8)), bias=draw(st.booleans())))
    return b.build(b.linear(x, draw(st.integers(2, 10)), bias=draw(st.booleans())))


def _conv(draw: st.DrawFn, b: ModelBuilder, x: str) -> str:
    rows = b.shape(x)[2]
    k = draw(st.sampled_from([1, 3]))
    stride = draw(st.sampled_from([1, 2])) if rows >= 4 else 1
    return b.conv(
        x, draw(st.integers(1, 6)), k, stride=stride, pad=k // 2, bias=draw(st.booleans())
    )


def _depthwise(draw: st.DrawFn, b: ModelBuilder, x: str) -> str:
    return b.conv(x, b.shape(x)[1] * draw(st.integers(1, 2)), 3, pad=1, groups=0)


def _activation(draw: st.DrawFn, b: ModelBuilder, x: str) -> str:
    return draw(st.sampled_from([b.relu, b.relu6]))(x)


def _norm(draw: st.DrawFn, b: ModelBuilder, x: str) -> str:
    x = b.batch_norm(x)
    return b.relu(x) if draw(st.booleans()) else x


def _dropout(draw: st.DrawFn, b: ModelBuilder, x: str) -> str:
    return b.dropout(_activation(draw, b, x) if draw(st.booleans()) else x)


def _pool(draw: st.DrawFn, b: ModelBuilder, x: str) -> str:
    add = draw(st.sampled_from([b.max_pool, b.avg_pool]))
    k = draw(st.integers(1, min(3, b.shape(x)[2])))
    stride = draw(st.integers(1, 2))
    return add(x, k, stride, pad=draw(st.integers(0, k // 2)), ceil_mode=draw(st.booleans()))


def _residual(draw: st.DrawFn, b: ModelBuilder, x: str) -> str:
    y = b.relu(b.conv(x, b.shape(x)[1], 3, pad=1))
    terms = [x, y, b.conv(x, b.shape(x)[1], 1)] if draw(st.booleans()) else [x, y]
    return b.sum(terms)


def _join(draw: st.DrawFn, b: ModelBuilder, x: str) -> str:
    branches = [b.conv(x, draw(st.integers(1, 4)), 1) for _ in range(draw(st.integers(1, 3)))]
    return b.concat([*branches, x] if draw(st.booleans()) else [*branches, b.relu(branches[0])])


_BLOCKS = [_conv, _depthwise, _activation, _norm, _dropout, _pool, _residual, _join]
