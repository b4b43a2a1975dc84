"""How a global batch is shared out."""

from pathlib import Path

import pytest

from kanvision.config import compose, parse_train, share_batch

CONF = Path(__file__).resolve().parents[3] / "conf"


@pytest.mark.parametrize("num_processes", [1, 2, 8, 16])
@pytest.mark.parametrize(
    ("words", "whole", "at_most"),
    [
        (("model=kat", "data=imagenet"), 1024, 128),
        (("model=vgg_kan", "data=imagenet"), 128, 16),
        (("model=convkan", "data=cifar100", "recipe=convkan_cifar100_tuned"), 256, 64),
        (("model=karat", "data=imagenet"), 128, 128),
        (("model=karat", "data=cifar10"), 32, 32),
        (("model=ukan", "data=sentinel_crops"), 16, 16),
    ],
    ids=str,
)
def test_a_step_has_the_published_batch_on_any_number_of_devices(words, whole, at_most, num_processes):
    share = share_batch(parse_train(compose("train", words, CONF)), num_processes)
    assert share.images * share.batches * num_processes == whole
    assert share.images <= at_most
    assert share.batches == max(1, whole // (num_processes * at_most))
