"""What every protocol asks of its rows."""

from torch import Tensor

from maskcon.errors import InputError


def check_rows(
    features: Tensor, *labels: Tensor | None, name: str = "test", least: int = 2
) -> None:
    """Raise `InputError` where rows cannot be judged.

    Args:
        features: should be [N, F], finite, with N of at least `least`.
        labels: each should be [N] of whole numbers; None is none.
        name: of the rows, for the message.
        least: how many rows there must be.
    """
    if features.ndim != 2 or not features.is_floating_point():
        raise InputError(
            f"{name} features are {features.dtype} {list(features.shape)}; "
            "give floating-point numbers [images, width]"
        )
    if len(features) < least:
        raise InputError(
            f"{len(features)} {name} images are too few: this protocol needs {least} or more"
        )
    if not features.isfinite().all():
        raise InputError(
            f"some {name} features are not finite: the encoder that made them has diverged"
        )
    for label in labels:
        if label is None:
            continue
        if label.shape != (len(features),):
            raise InputError(
                f"{len(features)} {name} images have labels of shape {list(label.shape)}; "
                "give one label for each image"
            )
        if label.is_floating_point():
            raise InputError(f"{name} labels are {label.dtype}; give whole numbers")


def by_class(label: Tensor) -> list[Tensor]:
    """Rows of each class, classes and rows ascending."""
    counts = label.unique(return_counts=True)[1]
    return list(label.argsort(stable=True).split(counts.tolist()))
