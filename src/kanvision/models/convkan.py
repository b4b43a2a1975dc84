"""ConvKAN backbones: plain stacks of KAN convolutions from one stage table.

The 4- and 8-layer networks of Drokin 2024, "Kolmogorov-Arnold Convolutions" (arXiv 2407.01092), over any
basis: 3x3 KAN convolutions, halved resolution at the first convolution of each stage but the first, global
average pooling and a linear classifier. With the basis of a published layer (gram: KAGN, chebyshev: KACN)
the layer around it is built as published; other bases get SiLU(norm(base + basis)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.layers import ClassifierHead
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from kanvision.layers import EdgeWaveletConv2d, KANConv2d, preset, preset_of_basis
from kanvision.layers.conv import KANConvNd
from kanvision.layers.norm import NORMS

__all__ = ["STAGES", "ConvKAN"]

STAGES: dict[int, tuple[tuple[int, ...], ...]] = {
    4: ((32,), (64,), (128, 256)),
    8: ((16,), (32,), (64, 128, 256), (256, 512, 512)),
}
"""Output channels of each convolution, by number of layers; a stage after the first starts with stride 2."""


class ConvKAN(nn.Module):
    """Stack of KAN convolutions with a linear classifier.

    Args:
        stages: Output channels of the convolutions of each stage.
        basis: Short name of the basis.
        basis_kwargs: Arguments of the basis.
        layer: Published layer to imitate (a name in `kanvision.layers.PRESETS`); None takes the one that was
            published with this basis. "wavkan" has a wavelet for each edge, which takes O times the work;
            basis="wavelet" alone ties them to the input channel.
        norm: Normalisation in the place where the published layer has one, with affine parameters; None for
            none.
        groups: Groups of every convolution but the first.
        width_scale: Multiplies all widths; each is rounded to a multiple of `groups`, at least one per group.
        kernel_size: Side of the kernels.
        in_chans: Input channels.
        num_classes: Outputs; 0 leaves out the classifier.
        global_pool: Pooling before the classifier, in timm's terms.
        drop_rate: Dropout before the classifier.
        layer_drop_rate: Channel dropout inside every convolution but the first.
        drop_path_rate: Must be 0: the network has no residual branches to drop.
        device: Where the parameters are made.
        dtype: Of the parameters.

    Raises:
        ValueError: A value is not legal; the message names it.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[int]] = STAGES[8],
        basis: str = "gram",
        basis_kwargs: Mapping[str, Any] | None = None,
        layer: str | None = None,
        norm: str | None = "batch",
        groups: int = 1,
        width_scale: float = 1.0,
        kernel_size: int = 3,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        layer_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if drop_path_rate:
            raise ValueError(
                f"drop_path_rate={drop_path_rate}: ConvKAN has no residual branches to drop; "
                "use drop_rate or layer_drop_rate"
            )
        options = _layer_options(layer or preset_of_basis(basis), basis, basis_kwargs, norm)
        conv = EdgeWaveletConv2d if layer == "wavkan" else KANConv2d
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.drop_rate = drop_rate
        self.feature_info: list[dict[str, Any]] = []
        blocks: list[nn.Module] = []
        channels, reduction = in_chans, 1
        for index, widths in enumerate(stages):
            convs: list[nn.Module] = []
            for depth, width in enumerate(widths):
                first = not blocks and not convs
                stride = 2 if index and not depth else 1
                out_channels = max(1, round(width * width_scale / groups)) * groups
                convs.append(
                    conv(
                        channels,
                        out_channels,
                        kernel_size,
                        stride=stride,
                        padding=kernel_size // 2,
                        groups=1 if first else groups,
                        drop_rate=0.0 if first else layer_drop_rate,
                        device=device,
                        dtype=dtype,
                        **options,
                    )
                )
                channels, reduction = out_channels, reduction * stride
            blocks.append(nn.Sequential(*convs))
            self.feature_info.append(
                {"num_chs": channels, "reduction": reduction, "module": f"stages.{index}"}
            )
        self.stages = nn.Sequential(*blocks)
        self.num_features = self.head_hidden_size = channels
        self.head = ClassifierHead(
            channels, num_classes, pool_type=global_pool, drop_rate=drop_rate, device=device, dtype=dtype
        )

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers in order, for layer-wise learning rates."""
        return {
            "stem": r"^stages\.0\.0\.",
            "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)",
        }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the basis maps in the backward pass instead of keeping them.

        Each convolution does so by itself: recomputing its norm too would update running statistics twice.
        """
        for module in self.modules():
            if isinstance(module, KANConvNd):
                module.checkpoint = enable

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        fc: nn.Module = self.head.fc
        return fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one; 0 classes leave it out."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Feature maps of the chosen stages.

        Args:
            x: Images, (B, C, H, W).
            indices: Stages to return; an int takes that many from the end, None all.
            norm: Not used: every convolution ends in its own norm.
            stop_early: Do not run stages after the last one asked for.
            output_fmt: Only "NCHW".
            intermediates_only: Leave out the final map.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt!r}: ConvKAN returns 'NCHW' only")
        take, last = feature_take_indices(len(self.stages), indices)
        maps = []
        for index, stage in enumerate(self.stages):
            if stop_early and index > last:
                break
            x = stage(x)
            if index in take:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what `forward_intermediates` does not need; unused parameters would stop distributed training.

        Args:
            indices: Stages to keep the results of; an int takes that many from the end.
            prune_norm: Not used: every convolution ends in its own norm.
            prune_head: Drop the classifier too.

        Returns:
            The stages whose results are kept.
        """
        take, last = feature_take_indices(len(self.stages), indices)
        self.stages = self.stages[: last + 1]
        if prune_head:
            self.reset_classifier(0, "")
        return take

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to the last feature map (B, num_features, H', W')."""
        y: Tensor = self.stages(x)
        return y

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Feature map to logits (B, num_classes), or to pooled features (B, num_features)."""
        y: Tensor = self.head(x, pre_logits=pre_logits)
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))


def _layer_options(
    layer: str | None, basis: str, basis_kwargs: Mapping[str, Any] | None, norm: str | None
) -> dict[str, Any]:
    """Arguments of every convolution; `norm` goes where the published layer has its norm."""
    if layer is None:
        return {"basis": basis, "basis_kwargs": basis_kwargs, "base_act": "silu", "norm": norm, "act": "silu"}
    options = preset(layer)
    if options["basis"] != basis:
        raise ValueError(f"layer={layer!r} is built on basis={options['basis']!r}, not {basis!r}")
    options["basis_kwargs"] = {**(options.get("basis_kwargs") or {}), **(basis_kwargs or {})}
    for slot in ("norm", "input_norm"):
        if options.get(slot) in NORMS:
            options[slot] = norm
    return options


default_cfgs = generate_default_cfgs(
    {
        f"convkan_{depth}": {
            "num_classes": 1000,
            "input_size": (3, 32, 32),
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            # Left out: timm adapts it to other in_chans by its one weight, and a KAN convolution has two.
            "first_conv": None,
            "classifier": "head.fc",
            "paper_ids": "arXiv:2407.01092",
        }
        for depth in STAGES
    }
)


def _create(depth: int, pretrained: bool, **kwargs: Any) -> Any:
    kwargs.setdefault("stages", STAGES[depth])
    indices = tuple(range(len(kwargs["stages"])))
    feature_cfg = {"out_indices": indices, "feature_cls": "getter"}
    return build_model_with_cfg(ConvKAN, f"convkan_{depth}", pretrained, feature_cfg=feature_cfg, **kwargs)


@register_model
def convkan_4(pretrained: bool = False, **kwargs: Any) -> Any:
    """Four KAN convolutions, 32 to 256 channels."""
    return _create(4, pretrained, **kwargs)


@register_model
def convkan_8(pretrained: bool = False, **kwargs: Any) -> Any:
    """Eight KAN convolutions, 16 to 512 channels."""
    return _create(8, pretrained, **kwargs)
