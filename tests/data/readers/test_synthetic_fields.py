"""Generated fields: the same for the same arguments, exact masks, sizes as asked for."""

import numpy as np
import pytest
import torch

from kanvision.data.readers import SyntheticFields


def test_an_image_is_a_function_of_seed_split_and_index():
    first, again = SyntheticFields(4), SyntheticFields(9)
    torch.rand(1)
    np.random.rand(1)
    for index in (3, 0):
        for key in ("image", "mask"):
            assert torch.equal(first[index][key], again[index][key])
    others = [SyntheticFields(4, seed=1), SyntheticFields(4, split="test")]
    assert not any(torch.equal(first[0]["mask"], other[0]["mask"]) for other in others)
    assert not torch.equal(first[0]["mask"], first[1]["mask"])


@pytest.mark.parametrize(
    ("img_size", "in_chans", "num_classes"), [(8, 1, 2), (33, 4, 4), (64, 12, 10), (48, 3, 2)]
)
def test_shapes_types_and_ranges(img_size: int, in_chans: int, num_classes: int):
    data = SyntheticFields(3, img_size=img_size, in_chans=in_chans, num_classes=num_classes, cloud_rate=1.0)
    for index in range(len(data)):
        sample = data[index]
        image, mask = sample["image"], sample["mask"]
        assert (image.shape, image.dtype) == ((in_chans, img_size, img_size), torch.float32)
        assert (mask.shape, mask.dtype) == ((img_size, img_size), torch.int64)
        assert 0 <= image.min() <= image.max() <= 1
        assert 0 <= mask.min() <= mask.max() < num_classes
        assert sample["index"] == index
    assert len(data.class_names) == num_classes
    with pytest.raises(IndexError):
        data[3]


def test_the_mask_names_the_spectrum_of_every_pixel():
    data = SyntheticFields(6, in_chans=6, num_classes=4, noise=0.0)
    spectra = torch.from_numpy(data.spectra)
    directions = spectra / spectra.norm(dim=1, keepdim=True)
    seen = set()
    for sample in (data[index] for index in range(len(data))):
        pixels = sample["image"].flatten(1).T  # (H*W, C)
        unclipped = (pixels < 1).all(dim=1)
        cosines = pixels / pixels.norm(dim=1, keepdim=True) @ directions.T  # (H*W, num_classes)
        mask = sample["mask"].flatten()
        right = cosines.gather(1, mask[:, None])[:, 0]
        torch.testing.assert_close(right[unclipped], torch.ones(int(unclipped.sum())), atol=1e-5, rtol=0)
        assert torch.equal(cosines.argmax(dim=1)[unclipped], mask[unclipped])
        seen |= set(mask.unique().tolist())
    assert seen == {0, 1, 2, 3}


def test_parcels_meet_in_straight_roads():
    data = SyntheticFields(1, img_size=200, num_fields=1)
    rng = np.random.default_rng(0)
    checked = 0
    while checked < 3:
        parcels, is_road = (grid.reshape(200, 200) for grid in data._parcels(rng))
        cuts = parcels[:, 1:] != parcels[:, :-1]  # (H, W - 1)
        assert is_road[:, 1:][cuts].all()
        assert is_road[:, :-1][cuts].all()
        if (cuts.sum(axis=1) == 1).all():  # one border, from top to bottom
            border = cuts.argmax(axis=1)
            rows = np.arange(200)
            assert np.abs(border - np.polyval(np.polyfit(rows, border, 1), rows)).max() < 1
            checked += 1


def test_spectra_are_common_to_all_splits_and_distinct():
    train, test = SyntheticFields(1, num_classes=8), SyntheticFields(1, num_classes=8, split="test")
    assert np.array_equal(train.spectra, test.spectra)
    distances = [np.linalg.norm(a - b) for i, a in enumerate(train.spectra) for b in train.spectra[:i]]
    assert min(distances) > 0.05
    assert not np.array_equal(train.spectra, SyntheticFields(1, num_classes=8, seed=1).spectra)


def test_noise_and_clouds_change_pixels_but_not_the_mask():
    clear = [SyntheticFields(5, noise=0.0)[i] for i in range(5)]
    noises = []
    for noise in (0.05, 0.1):
        noisy = [SyntheticFields(5, noise=noise)[i] for i in range(5)]
        assert all(torch.equal(a["mask"], b["mask"]) for a, b in zip(clear, noisy, strict=True))
        noises.append(torch.stack([b["image"] - a["image"] for a, b in zip(clear, noisy, strict=True)]).std())
    assert noises[0] == pytest.approx(0.05, rel=0.05)
    assert noises[1] == pytest.approx(0.1, rel=0.05)
    cloudy = [SyntheticFields(5, noise=0.0, cloud_rate=1.0)[i] for i in range(5)]
    assert all(torch.equal(a["mask"], b["mask"]) for a, b in zip(clear, cloudy, strict=True))
    brighter = [(b["image"] - a["image"]).mean() for a, b in zip(clear, cloudy, strict=True)]
    assert min(brighter) >= 0
    assert max(brighter) > 0.05


@pytest.mark.parametrize(
    ("key", "value", "legal"),
    [
        ("num_images", 0, "1 or more"),
        ("img_size", 4, "8 or more"),
        ("in_chans", 0, "1 or more"),
        ("num_classes", 1, "2 or more"),
        ("num_fields", 0, "1 or more"),
        ("noise", -0.1, "0 or more"),
        ("cloud_rate", 1.5, "0 to 1"),
    ],
)
def test_a_wrong_argument_is_named(key: str, value: float, legal: str):
    with pytest.raises(ValueError, match=f"{key}={value}; legal: {legal}"):
        SyntheticFields(**{"num_images": 2, key: value})
