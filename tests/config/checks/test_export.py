"""What does not fit together in `eval.py mode=export` is said before torch is imported."""

import pytest

from .test_prediction import judged


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mode=export", ["format=null", "mode=export needs formats", "legal: format=[pt2,torchscript"]),
        ("mode=export format=[onnx,tflite]", ["format", "tflite", "pt2, torchscript, safetensors or onnx"]),
        ("mode=export format=[pt2] quantize=int8", ["quantize=int8, format=[pt2]", "add onnx to format"]),
        (
            "mode=export format=[onnx] quantize=int8 export.img_size=64",
            ["quantize=int8, export.img_size=64", "images of the size of the run"],
        ),
        ("mode=export format=[onnx] split=val data.root=x", ["data.root=x, split=val", "scores of quantize"]),
        ("mode=export format=[onnx] trainer.devices=2", ["trainer.devices=2", "one device"]),
        ("mode=export format=[onnx] export.sizes=[[32]]", ["export.sizes"]),
        ("format=[onnx]", ["format=[onnx]", "not used by mode=test", "mode=export"]),
    ],
)
def test_what_does_not_fit_together_is_named_with_the_reason(line: str, words: list[str]) -> None:
    said = judged(line)
    assert said.startswith("1 problem in")
    assert [word for word in words if word not in said] == [], said


def test_what_fits_is_accepted() -> None:
    """Scores of 8-bit weights read the data set, which the plain export does not."""
    assert judged("mode=export format=[onnx,pt2] export.dynamic_size=true export.sizes=[[32,64]]") == ""
    assert judged("mode=export format=[onnx] quantize=int8 split=val data.root=x") == ""
