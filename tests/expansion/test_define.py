"""Plain formula of a definition: axes, inputs of each channel, dtypes."""

import pytest
import torch

from kanvision.expansion.define import evaluate

from .programs import COMPOSED, EVERYTHING, INPUTS


def test_inputs_of_each_channel():
    """Scalars that meet the wrong axis would give equal channels, or fail for some layouts."""
    scale = torch.rand(3, 2) + 0.5
    shift = torch.randn(1)
    x = torch.randn(2, 3, 5)
    found = evaluate(EVERYTHING, x, [scale, shift], 2, 1)  # (B, C, K, S)
    assert found.shape == (2, 3, 6, 5)
    for channel in range(3):
        alone = evaluate(EVERYTHING, x[:, channel], [scale[channel], shift], 1, 0)
        torch.testing.assert_close(found[:, channel], alone)
    torch.testing.assert_close(
        evaluate(EVERYTHING, x.movedim(1, -1), [scale, shift], 3, 2), found.permute(0, 3, 1, 2)
    )


@pytest.mark.parametrize("definition", [EVERYTHING, COMPOSED], ids=["plain", "composed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_nan(definition, dtype):
    x = torch.tensor([0.3, float("nan"), -2.0], dtype=dtype)
    values = evaluate(definition, x, [torch.tensor(group) for group in INPUTS[definition]], 0, 0)
    assert values.dtype == dtype
    assert values[:5, 1].isnan().all()
    assert values[:, ::2].isfinite().all()
    assert (values[5] == 1).all()  # a constant is one for every input
