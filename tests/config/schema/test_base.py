"""Arguments of a model by which libraries fetch weights or read files."""

import pytest
from pydantic import TypeAdapter

from kanvision.config.schema.models import AnyModel
from kanvision.spec.models import without_sources


def test_sources_are_left_out_at_any_depth() -> None:
    given = {
        "pretrained": True,
        "width": 3,
        "pretrained_cfg_overlay": {"url": "http://x", "file": "y", "hf_hub_id": "z", "input_size": [3, 8, 8]},
        "parts": [{"checkpoint_path": "a", "depth": 1}],
    }
    left = {"width": 3, "pretrained_cfg_overlay": {"input_size": [3, 8, 8]}, "parts": [{"depth": 1}]}
    assert without_sources(given) == left


@pytest.mark.parametrize(
    ("family", "more"),
    [("timm", {"pretrained": True}), ("smp", {"encoder_weights": "imagenet", "encoder_name": "resnet18"})],
)
def test_a_model_without_weights_has_nothing_to_load(family: str, more: dict[str, object]) -> None:
    kind = "classifier" if family == "timm" else "segmenter"
    words = {"family": family, "name": "x", "kind": kind, "num_classes": 2, "in_chans": 3}
    kwargs = {"encoder_weights": "imagenet", "pretrained": True, "decoder_channels": [8, 4]}
    model = TypeAdapter(AnyModel).validate_python({**words, **more, "kwargs": kwargs})
    assert model.arguments()["pretrained"] is True
    bare = model.without_weights().arguments()
    assert bare.get("pretrained") in (None, False)
    assert bare.get("encoder_weights") is None
    assert bare["decoder_channels"] == [8, 4]
