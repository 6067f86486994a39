"""Ready-made models, each checked against what its makers published about it.

>>> load_model("vgg16", batch=64).params
14715584
"""

from __future__ import annotations

from difflib import get_close_matches

from sim.model import ForwardModel, ModelError, check_batch
from sim.zoo import grouped, inception, mobilenet, plain, residual, tiny
from sim.zoo.registry import ModelInfo, Published

__all__ = ["ModelInfo", "Published", "load_model", "model_info", "model_names"]

_ENTRIES: dict[str, ModelInfo] = {
    entry.name: entry
    for family in (plain, residual, inception, mobilenet, tiny, grouped)
    for entry in family.ENTRIES
}


def model_names() -> tuple[str, ...]:
    """Names of all models, sorted."""
    return tuple(sorted(_ENTRIES))


def model_info(name: str) -> ModelInfo:
    """The entry called ``name``; raises :class:`~sim.model.ModelError` naming the closest one."""
    if name in _ENTRIES:
        return _ENTRIES[name]
    close = get_close_matches(str(name).lower(), _ENTRIES, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ModelError(f"model = {name!r}; allowed: {', '.join(model_names())}{hint}")


def load_model(
    name: str, batch: int, image: int | None = None, classes: int | None = None
) -> ForwardModel:
    """The model called ``name``, for ``batch`` samples per step.

    Parameters
    ----------
    name
        One of :func:`model_names`.
    batch
        Samples per step, 1 or more.
    image
        Rows and columns of the images; the entry's own size by default. Networks that end in a
        global pooling take any size; VGG16 for ImageNet and AlexNet take those whose last map
        their classifier's pooling divides; LeNet and VGG for CIFAR widen their first linear
        layer with the map.
    classes
        Width of the logits; the entry's own by default.

    Raises
    ------
    sim.model.ModelError
        For an unknown name, sizes that are not positive ints, or an image that does not fit.
    kernels.operators.OperatorError
        For an image that is smaller than some layer's window.

    Examples
    --------
    >>> load_model("resnet18", batch=64, classes=100).layers[-1].op.output
    (64, 100)
    """
    info = model_info(name)
    check_batch(batch)
    image = info.image if image is None else image
    classes = info.classes if classes is None else classes
    for field, value in (("image", image), ("classes", classes)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{field} = {value!r}; allowed: an int of 1 or more")
    return info.build(batch, image, classes)
