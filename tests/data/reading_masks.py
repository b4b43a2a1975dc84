"""A datamodule on tiny data with masks, or the reason why they are refused."""

from pathlib import Path

import pytest

from kanvision.data import DataError, SegmentationDataModule

COLOR = {"in_chans": 3, "mean": [0.5] * 3, "std": [0.25] * 3}


def masks(name: str, root: Path | None, **changes) -> SegmentationDataModule:
    settings = {"num_classes": 2, "img_size": 16, "mode": "binary", "batch_size": 4, **COLOR}
    return SegmentationDataModule(
        name, **{**settings, "root": None if root is None else str(root), **changes}
    )


def refusal(name: str, root: Path | None, **changes) -> str:
    with pytest.raises(DataError) as caught:
        masks(name, root, **changes).setup()
    return str(caught.value)


def parts(data: SegmentationDataModule) -> dict[str, list[str]]:
    """Names of the images of each split."""
    data.setup()
    return {part: data.datasets[part].names for part in ("train", "val", "test")}
