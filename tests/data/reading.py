"""Reading a data set, or the reason why it is refused."""

from pathlib import Path

import pytest

from kanvision.data import READERS, DataError
from kanvision.data.readers import Splits


def read(name: str, root: Path | None, **kwargs) -> Splits:
    return READERS[name](root, **kwargs).read()


def refusal(name: str, root: Path, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        read(name, root, **kwargs)
    return str(caught.value)
