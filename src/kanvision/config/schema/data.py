"""Keys of `data`, `augment` and `mixup`: what it is trained on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Count, Fraction, NonNegative, Positive, Rate, Section, Task


class DataConfig(Section):
    """A data set: where it lies, what its samples are, how they are split and loaded."""

    name: str
    """Reader in `kanvision.data`."""
    task: Task
    """What its labels are for."""
    root: str | None
    """Folder on disk; null for data that ship with a package."""
    num_classes: Count | None
    """Number of classes; null: count the class folders."""
    in_chans: Count
    """Channels or bands of an image."""
    img_size: Count
    """Side in pixels to which images are brought."""
    mean: list[float] | None
    """Mean of each channel, in units of [0, 1]; null (segmentation): measured on the training images."""
    std: list[Positive] | None
    """Standard deviation of each channel, in units of [0, 1]; null as for mean."""
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    """How images are resized for evaluation."""
    crop_pct: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the resized image that the center crop of evaluation keeps."""
    val_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of each class held out to choose the best checkpoint; 0: validate on the test split."""
    split_seed: int = 0
    """Seed of the held-out share, and of splits that are drawn."""
    batch_size: Count | None = 128
    """Images of one batch of one process in training; null: its share of recipe.batch_size."""
    eval_batch_size: Count | None = None
    """Images per step and device in evaluation; null: as in training."""
    num_workers: Annotated[int, Field(ge=0)] = 0
    """Loader processes per device; never more than cores."""
    limit: Count | None = None
    """Train on at most this many images (a fixed choice, equal over classes); the others are not cut."""
    limit_test: Count | None = None
    """Validate and test on at most this many images each, for trials (a fixed choice, equal over classes)."""
    download: bool = False
    """Fetch the data set when it is missing."""
    on_bad_sample: Literal["raise", "skip"] = "raise"
    """Samples that cannot be read: raise ends the run; skip replaces them (training) or leaves them out."""
    max_bad_samples: Annotated[int, Field(ge=0)] = 10
    """Bad files that a run with on_bad_sample=skip goes on without; one more ends it."""
    max_pixels: Count | None = 178_956_970
    """Most pixels of an image: small files can claim to hold billions; null: no limit."""


class ClassDataConfig(DataConfig):
    """Images with one class each."""

    task: Literal["classification"]
    """What its labels are for."""


class ImageDataConfig(ClassDataConfig):
    """Images with one class each, in a layout of their own."""

    name: Literal[
        "cifar10",
        "cifar100",
        "digits",
        "fashion_mnist",
        "flowers102",
        "image_folder",
        "imagenet",
        "mnist",
        "stl10",
        "svhn",
        "tiny_imagenet",
    ]
    """Reader in `kanvision.data`."""


class ShardDataConfig(ClassDataConfig):
    """Images with one class each, in tar shards as WebDataset has them."""

    name: Literal["webdataset"]
    """Reader in `kanvision.data`."""
    label_key: str = "label"
    """Entry of .json members that is the label."""
    train_shards: str | None = None
    """Training shards below data.root, as imagenet-train-{0000..1023}.tar; null: names with train in them."""
    val_shards: str | None = None
    """The same for validation; null: names with val, valid or validation in them."""
    test_shards: str | None = None
    """The same for the test; null: names with test in them."""


class MaskDataConfig(DataConfig):
    """Images with masks."""

    task: Literal["segmentation"]
    """What its labels are for."""
    mode: Literal["binary", "multiclass", "multilabel"]
    """binary: foreground or not; multiclass: one class a pixel; multilabel: a mask for each class."""
    preprocessing: Literal["default", "u_kan"] = "default"
    """default: image and mask stay in line; u_kan: as published, masks shifted, as its weights need it."""
    eval_size: Literal["input", "original"] = "input"
    """Size at which masks are scored: img_size, or that of the stored image (then one image a batch)."""


class SyntheticFieldsConfig(MaskDataConfig):
    """Generated crop fields."""

    name: Literal["synthetic_fields"]
    """Reader in `kanvision.data`."""


class MaskFilesConfig(MaskDataConfig):
    """Images and masks in files."""

    max_value: Positive | None = None
    """Stored value that becomes 1; null: 255 for 8 bits, 65535 for 16, 1 for floating-point numbers."""
    split_file: str | None = None
    """Table with the columns name and split (train, val, test), which then decides instead of `split`."""


class BUSIConfig(MaskFilesConfig):
    """Ultrasound of the breast (Al-Dhabyani et al. 2020)."""

    name: Literal["busi"]
    """Reader in `kanvision.data`."""
    mode: Literal["binary"] = "binary"
    """Lesion or not."""
    normals: bool = False
    """Use the images without a lesion too; their masks are empty."""
    split: Literal["groups", "published"] = "groups"
    """groups: near duplicates stay together; published: a random fifth is the test, as in U-KAN."""


class GlaSConfig(MaskFilesConfig):
    """Glands in stained sections of the colon (Sirinukunwattana et al. 2017)."""

    name: Literal["glas"]
    """Reader in `kanvision.data`."""
    mode: Literal["binary"] = "binary"
    """Gland or not; the glands are numbered, too."""
    split: Literal["official", "patients", "published"] = "official"
    """official: 85 images train, A and B test; patients: no patient in two parts; published: as in U-KAN."""
    test_part: Literal["A", "B", "AB"] = "AB"
    """Which of the official tests, for split=official."""


class CVCConfig(MaskFilesConfig):
    """Polyps in frames of colonoscopy videos (Bernal et al. 2015)."""

    name: Literal["cvc"]
    """Reader in `kanvision.data`."""
    mode: Literal["binary"] = "binary"
    """Polyp or not."""
    split: Literal["published", "sequences"] = "published"
    """published: a random fifth of the frames is the test, as in U-KAN; sequences: no video in two parts."""


class SegmentationFolderConfig(MaskFilesConfig):
    """Your own images with masks."""

    name: Literal["segmentation_folder"]
    """Reader in `kanvision.data`."""
    mask_folder: str = "masks"
    """Name of the folder of the masks."""
    mask_suffix: str = ""
    """What the name of a mask has behind that of its image, for example _mask."""
    threshold: Annotated[int, Field(ge=0, le=254)] = 0
    """Gray level above which a pixel is foreground (not for multiclass); 0: `foreground` decides."""
    foreground: Literal["all"] | list[int] | None = None
    """Stored values that are foreground under threshold=0, or all but zero; null: the only one but zero."""
    palette: dict[str, str] | str | None = None
    """Class of each color (#rrggbb or 0xrrggbb) or stored number, or a .csv or .yaml file with them."""
    bands: list[Count] | None = None
    """Bands of an image to use, counted from 1; null: all."""
    ignore_index: int | None = None
    """Stored value of pixels that neither train nor count, for example 255; null: all do."""


class SentinelCropsConfig(MaskDataConfig):
    """Fields of the Western Cape from Sentinel-2 or Sentinel-1 (South Africa Crop Type)."""

    name: Literal["sentinel_crops"]
    """Reader in `kanvision.data`."""
    mode: Literal["binary", "multiclass"]
    """binary: fields or not; multiclass: ten classes of crops."""
    max_value: Positive | None = None
    """Stored value that becomes 1; null: 255 for 8 bits, 65535 for 16, 1 for floating-point numbers."""
    sensor: Literal["s2", "s1"] = "s2"
    """s2: 12 bands of Sentinel-2; s1: VV and VH of Sentinel-1."""
    bands: list[str] | None = None
    """Names of the bands to use, in this order; null: all of the sensor."""
    split_file: str | None = None
    """Table with columns area and split, and perhaps date, iou, nulls, saturated, as the published one."""
    max_clouds_train: Fraction | None = 0.3
    """Days in training have clouds with an IoU with the fields below this; null: any day."""
    max_clouds_eval: Fraction | None = 0.1
    """The same in validation and test, where the first such day is taken."""


class AugmentConfig(Section):
    """Training augmentation, in timm's terms; unused parts are null or 0."""

    backend: Literal["albumentations", "torchvision"] = "albumentations"
    """Library that moves images with masks."""
    crop: Literal["random_resized", "pad", "none"] = "none"
    """random_resized: RandomResizedCrop; pad: zero-pad by `pad` and crop; none: resize only."""
    pad: Annotated[int, Field(ge=0)] = 4
    """Pixels of padding for crop=pad."""
    scale: tuple[Fraction, Fraction] = (0.08, 1.0)
    """Area range of the random resized crop."""
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Aspect range of the random resized crop."""
    interpolation: Literal["random", "nearest", "bilinear", "bicubic"] = "bilinear"
    """Interpolation of training images."""
    hflip: Rate = 0.0
    """Probability of a horizontal flip."""
    vflip: Rate = 0.0
    """Probability of a vertical flip."""
    transpose: Rate = 0.0
    """Probability that rows become columns (images with masks)."""
    rot90: Rate = 0.0
    """Probability of a turn by 0, 90, 180 or 270 degrees, each as likely (images with masks)."""
    auto_augment: str | None = None
    """timm's policy string (rand-m9-mstd0.5), or torchvision's policies (tv-trivial, tv-cifar10+tv-svhn)."""
    color_jitter: NonNegative = 0.0
    """Strength of color jitter; not used together with auto_augment."""
    brightness: Rate = 0.0
    """Largest relative change of the brightness (images with masks)."""
    random_affine: RandomAffineConfig | None = None
    """Small rotations, shifts and zooms, for digits and clothes."""
    re_prob: Rate = 0.0
    """Probability of random erasing."""
    re_mode: Literal["const", "rand", "pixel"] = "pixel"
    """What erased pixels are filled with."""
    re_count: Count = 1
    """Erased boxes per image."""
    num_repeats: Count = 1
    """Repeated augmentation: copies of an image in one global batch (1: off)."""


class RandomAffineConfig(Section):
    """A random affine map of the image."""

    degrees: NonNegative = 0.0
    """Largest rotation."""
    translate: Rate = 0.0
    """Largest shift as a share of the side."""
    scale: tuple[Positive, Positive] = (1.0, 1.0)
    """Range of the zoom."""


class MixupConfig(Section):
    """Mixing of images within a batch (timm's Mixup); both alphas 0: off."""

    mixup_alpha: NonNegative = 0.0
    """Beta parameter of mixup."""
    cutmix_alpha: NonNegative = 0.0
    """Beta parameter of CutMix."""
    prob: Rate = 1.0
    """Share of batches that are mixed."""
    switch_prob: Rate = 0.5
    """Share of CutMix when both are on."""
    mode: Literal["batch", "pair", "elem"] = "batch"
    """One mixing ratio per batch, pair or image."""


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
