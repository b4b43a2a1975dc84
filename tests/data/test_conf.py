"""The files of conf/data against the schema and the readers."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import TypeAdapter

from kanvision.config.conf_source import register_conf
from kanvision.config.schema.data import AnyData, AugmentConfig
from kanvision.data import READERS, SEGMENTATION_READERS, build_datamodule

CONF = Path(__file__).resolve().parents[2] / "conf"


def settings(name: str, *overrides: str) -> dict:
    register_conf([CONF])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose(overrides=[f"+data={name}", *overrides])).get("data")


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_data_file_has_every_key_and_builds(name: str):
    values = settings(name)
    checked = TypeAdapter(AnyData).validate_python(values)
    # Hydra refuses to override a key that the file does not have.
    assert set(values) == set(type(checked).model_fields)
    assert (checked.name, checked.task) == (name, "classification")
    data = build_datamodule(
        checked.task, **checked.model_dump(exclude={"task"}), augment=AugmentConfig().model_dump(), seed=0
    )
    assert data.spec.img_size == checked.img_size
    head = (CONF / "data" / f"{name}.yaml").read_text().split("defaults:")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert "license" in head.lower()


@pytest.mark.parametrize("name", sorted(SEGMENTATION_READERS))
def test_a_data_file_with_masks_builds_and_states_source_and_license(name: str):
    values = settings(name)
    checked = TypeAdapter(AnyData).validate_python(values)
    assert (checked.name, checked.task) == (name, "segmentation")
    data = build_datamodule(
        checked.task, **checked.model_dump(exclude={"task"}), augment=AugmentConfig().model_dump(), seed=0
    )
    assert (data.reader.info.name, data.mode) == (name, values["mode"])
    head = (CONF / "data" / f"{name}.yaml").read_text().split("defaults:")[0]
    assert "license" in head.lower()
    assert "source" in head.lower()


@pytest.mark.parametrize("name", ["busi", "glas", "cvc"])
def test_medical_images_are_normalized_and_sized_as_published(name: str):
    values = settings(name)
    assert (values["mean"], values["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert values["img_size"] == (512 if name == "glas" else 256)


@pytest.mark.parametrize(
    ("name", "count"),
    {
        "digits": 10,
        "mnist": 10,
        "cifar100": 100,
        "tiny_imagenet": 200,
        "imagenet": 1000,
        "image_folder": None,
    }.items(),
)
def test_data_files_state_the_number_of_classes(name: str, count: int | None):
    assert settings(name)["num_classes"] == count


def test_imagenet_follows_the_published_protocol():
    values = settings("imagenet")
    expected = {"img_size": 224, "interpolation": "bicubic", "crop_pct": 0.875, "val_fraction": 0.0}
    assert {key: values[key] for key in expected} == expected


def test_the_default_data_set_needs_nothing_and_loads():
    values = settings("digits", "data.batch_size=32")
    task = values.pop("task")
    batch = next(iter(build_datamodule(task, **values).train_dataloader()))
    assert batch["image"].shape == (32, 1, 8, 8)
    assert abs(batch["image"].mean()) < 0.1
    assert abs(batch["image"].std() - 1) < 0.1
