"""Keys of `data`, `augment` and `mixup`: the training data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kanvision.spec.data import (
    Backend,
    BUSISplit,
    Crop,
    CVCSplit,
    EvalSize,
    FaultPolicy,
    GlaSSplit,
    GlaSTest,
    Interpolation,
    PreprocessingName,
    Sampling,
    Sensor,
    SentinelMode,
)
from kanvision.spec.tasks import MaskMode, TaskName

from .base import Count, Fraction, NonNegative, Positive, Rate, Section


class DataConfig(Section):
    """A data set: its folder, the form of its samples, its splits and its loaders."""

    name: str
    """Reader in `kanvision.data`."""
    task: TaskName
    """Task of the labels."""
    root: str | None
    """Folder on disk; null for data that ship with a package."""
    num_classes: Count | None
    """Number of classes; null: count the class folders."""
    in_chans: Count
    """Number of channels or bands of an image."""
    img_size: Count
    """Side in pixels to which images are resized."""
    mean: list[float] | None
    """Mean of each channel, in units of [0, 1]; null, for segmentation: measured on the training images."""
    std: list[Positive] | None
    """Standard deviation of each channel, in units of [0, 1]; null as for mean."""
    interpolation: Interpolation = "bilinear"
    """Interpolation by which evaluation resizes images."""
    crop_pct: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Side of the center crop in evaluation divided by the side of the resized image."""
    val_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Fraction of each class that is held out for validation; 0: validate on the test split."""
    split_seed: int = 0
    """Seed of the held-out fraction and of random splits."""
    batch_size: Count | None = 128
    """Images in a training batch of one process; null: recipe.batch_size divided over the processes."""
    eval_batch_size: Count | None = None
    """Images in an evaluation batch of one process; null: as in training."""
    num_workers: Annotated[int, Field(ge=0)] = 0
    """Loader processes of each process, at most one for each core."""
    limit: Count | None = None
    """Maximal number of training images, a fixed choice with equally many of each class; null: all."""
    limit_test: Count | None = None
    """Maximal number of validation images and of test images, a fixed choice as for limit; null: all."""
    download: bool = False
    """Download the data set if it is missing."""
    on_bad_sample: FaultPolicy = "raise"
    """Samples that cannot be read: raise: the run ends; skip: training replaces them, evaluation omits
    them."""
    max_bad_samples: Annotated[int, Field(ge=0)] = 10
    """Number of unreadable files that on_bad_sample=skip tolerates; one more ends the run."""
    max_pixels: Count | None = 178_956_970
    """Maximal number of pixels of an image, against small files that decode to billions; null: no limit."""


class ClassDataConfig(DataConfig):
    """Data set of images with one class each."""

    task: Literal["classification"]
    sampling: Sampling = "uniform"
    """Order of training images: uniform: each once in an epoch; balanced: as many are drawn, with
    replacement, all classes equally often."""


class ImageDataConfig(ClassDataConfig):
    """Data set of images with one class each, in its own layout of files."""

    name: Literal[
        "cifar10",
        "cifar100",
        "digits",
        "fashion_mnist",
        "flowers102",
        "image_folder",
        "image_table",
        "imagenet",
        "mnist",
        "stl10",
        "svhn",
        "tiny_imagenet",
    ]


class ShardDataConfig(ClassDataConfig):
    """Data set of images with one class each, in tar shards of WebDataset."""

    name: Literal["webdataset"]
    label_key: str = "label"
    """Key of the label in .json members."""
    train_shards: str | None = None
    """Training shards below data.root, as imagenet-train-{0000..1023}.tar; null: files with train in their
    names."""
    val_shards: str | None = None
    """Validation shards; null: files with val, valid or validation in their names."""
    test_shards: str | None = None
    """Test shards; null: files with test in their names."""


class MaskDataConfig(DataConfig):
    """Data set of images with masks."""

    task: Literal["segmentation"]
    mode: MaskMode
    """binary: foreground or background; multiclass: one class for each pixel; multilabel: a mask for each
    class."""
    preprocessing: PreprocessingName = "default"
    """default: image and mask are aligned; u_kan: as in the published code of U-KAN, which its weights need:
    masks are shifted."""
    eval_size: EvalSize = "input"
    """Size at which masks are scored: input: img_size; original: that of the stored image, in batches of
    one."""


class SyntheticFieldsConfig(MaskDataConfig):
    """Synthetic images of crop fields."""

    name: Literal["synthetic_fields"]


class MaskFilesConfig(MaskDataConfig):
    """Data set of images and masks in files."""

    max_value: Positive | None = None
    """Stored value that becomes 1; null: 255 for 8 bits, 65535 for 16 bits, 1 for floating-point numbers."""
    split_file: str | None = None
    """Table with the columns name and split (train, val, test), which replaces `split`; null: none."""


class BUSIConfig(MaskFilesConfig):
    """BUSI: ultrasound images of the breast (Al-Dhabyani et al. 2020)."""

    name: Literal["busi"]
    mode: Literal["binary"] = "binary"
    """binary: lesion or background."""
    normals: bool = False
    """Include the images without a lesion, whose masks are empty."""
    split: BUSISplit = "groups"
    """groups: near duplicates are in one split; published: a random fifth is the test split, as in U-KAN."""


class GlaSConfig(MaskFilesConfig):
    """GlaS: glands in stained sections of the colon (Sirinukunwattana et al. 2017)."""

    name: Literal["glas"]
    mode: Literal["binary"] = "binary"
    """binary: gland or background; masks number the glands too."""
    split: GlaSSplit = "official"
    """official: 85 training images, test splits A and B; patients: no patient is in two splits; published: as
    in U-KAN."""
    test_part: GlaSTest = "AB"
    """Official test split, for split=official."""


class CVCConfig(MaskFilesConfig):
    """CVC-ClinicDB: polyps in frames of colonoscopy videos (Bernal et al. 2015)."""

    name: Literal["cvc"]
    mode: Literal["binary"] = "binary"
    """binary: polyp or background."""
    split: CVCSplit = "published"
    """published: a random fifth of the frames is the test split, as in U-KAN; sequences: no video is in two
    splits."""


class SegmentationFolderConfig(MaskFilesConfig):
    """Own images with masks."""

    name: Literal["segmentation_folder"]
    mask_folder: str = "masks"
    """Name of the folder of the masks."""
    mask_suffix: str = ""
    """Suffix of the name of a mask after the name of its image, for example _mask."""
    threshold: Annotated[int, Field(ge=0, le=254)] = 0
    """Gray level above which a pixel is foreground, not for multiclass; 0: by `foreground`."""
    foreground: Literal["all"] | list[int] | None = None
    """Stored values of the foreground with threshold=0; all: every value but zero; null: the only such
    value."""
    palette: dict[str, str] | str | None = None
    """Class of each color (#rrggbb or 0xrrggbb) or stored number, or a .csv or .yaml file with them; null:
    masks hold numbers of classes."""
    bands: list[Count] | None = None
    """Bands of an image to use, counted from 1; null: all."""
    ignore_index: int | None = None
    """Stored value of pixels without effect on training and scores, for example 255; null: none."""


class SentinelCropsConfig(MaskDataConfig):
    """Crop fields of the Western Cape from Sentinel-2 or Sentinel-1 (South Africa Crop Type)."""

    name: Literal["sentinel_crops"]
    mode: SentinelMode
    """binary: field or background; multiclass: ten classes of crops."""
    max_value: Positive | None = None
    """Stored value that becomes 1; null: 255 for 8 bits, 65535 for 16 bits, 1 for floating-point numbers."""
    sensor: Sensor = "s2"
    """s2: 12 bands of Sentinel-2; s1: VV and VH of Sentinel-1."""
    bands: list[str] | None = None
    """Names of the bands to use, in this order; null: all of the sensor."""
    split_file: str | None = None
    """Table with the columns area and split, and optionally date, iou, nulls and saturated, as published;
    null: none."""
    max_clouds_train: Fraction | None = 0.3
    """Maximal IoU of clouds and fields on a day of the training; null: any day."""
    max_clouds_eval: Fraction | None = 0.1
    """Maximal IoU of clouds and fields in validation and test, which take the first such day; null: any
    day."""


class AugmentConfig(Section):
    """Training augmentation, in timm's terms; null or 0 switches a part off."""

    backend: Backend = "albumentations"
    """Library of the geometric transforms of images with masks."""
    crop: Crop = "none"
    """random_resized: RandomResizedCrop; pad: zero padding by `pad` and a random crop; none: resize only."""
    pad: Annotated[int, Field(ge=0)] = 4
    """Pixels of padding for crop=pad."""
    scale: tuple[Fraction, Fraction] = (0.08, 1.0)
    """Range of the area of the random resized crop, as a fraction of the image."""
    ratio: tuple[Positive, Positive] = (0.75, 1.3333333333)  # runs that are resumed have these digits
    """Range of the aspect ratio of the random resized crop."""
    interpolation: Literal["random", Interpolation] = "bilinear"
    """Interpolation of training images."""
    hflip: Rate = 0.0
    """Probability of a horizontal flip."""
    vflip: Rate = 0.0
    """Probability of a vertical flip."""
    transpose: Rate = 0.0
    """Probability of a transposition (images with masks)."""
    rot90: Rate = 0.0
    """Probability of a rotation by 0, 90, 180 or 270 degrees, equally likely (images with masks)."""
    auto_augment: str | None = None
    """Policy string of timm (rand-m9-mstd0.5), or policies of torchvision (tv-trivial,
    tv-cifar10+tv-svhn)."""
    color_jitter: NonNegative = 0.0
    """Strength of color jitter, without effect with auto_augment."""
    brightness: Rate = 0.0
    """Maximal relative change of the brightness (images with masks)."""
    random_affine: RandomAffineConfig | None = None
    """Random rotation, translation and zoom; null: none."""
    re_prob: Rate = 0.0
    """Probability of random erasing."""
    re_mode: Literal["const", "rand", "pixel"] = "pixel"
    """Fill of erased pixels: const: zeros; rand: one random color; pixel: random values."""
    re_count: Count = 1
    """Maximal number of erased boxes in an image."""
    num_repeats: Count = 1
    """Repeated augmentation: number of copies of an image in a global batch; 1: off."""


class RandomAffineConfig(Section):
    """Random affine transform of an image."""

    degrees: NonNegative = 0.0
    """Maximal rotation in degrees."""
    translate: Rate = 0.0
    """Maximal translation as a fraction of the side."""
    scale: tuple[Positive, Positive] = (1.0, 1.0)
    """Range of the zoom factor."""


class MixupConfig(Section):
    """Mixup and CutMix within a batch (timm's Mixup); off if both alphas are 0."""

    mixup_alpha: NonNegative = 0.0
    """Beta parameter of mixup."""
    cutmix_alpha: NonNegative = 0.0
    """Beta parameter of CutMix."""
    prob: Rate = 1.0
    """Probability that a batch is mixed."""
    switch_prob: Rate = 0.5
    """Probability of CutMix if mixup and CutMix are on."""
    mode: Literal["batch", "pair", "elem"] = "batch"
    """Mixing ratio: one for each batch, pair of images, or image (elem)."""


AnyData = Annotated[
    ImageDataConfig
    | ShardDataConfig
    | SyntheticFieldsConfig
    | BUSIConfig
    | GlaSConfig
    | CVCConfig
    | SegmentationFolderConfig
    | SentinelCropsConfig,
    Field(discriminator="name"),
]

AugmentConfig.model_rebuild()
