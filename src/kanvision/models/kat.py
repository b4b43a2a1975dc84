"""Kolmogorov-Arnold Transformer: timm's VisionTransformer with group-rational feed-forward blocks.

Yang and Wang 2024, "Kolmogorov-Arnold Transformer" (arXiv 2409.10594): sizes, start values and parameter
names as in the published code, so that published weights differ in the names of the rationals alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, cast

import torch
from timm.layers.weight_init import trunc_normal_
from timm.models import VisionTransformer
from torch import nn

from kanvision.layers import GroupRationalMlp
from kanvision.spec.models import KAT_ATTENTION_INITS, KAT_INITS, VIT_SIZES, KATAttentionInit, KATInit

from .mimetic import init_mimetic_attention
from .register_sizes import register_sizes
from .transformer import build_transformer, transformer_cfg

__all__ = ["KAT"]


class KAT(VisionTransformer):
    """Vision transformer whose feed-forward blocks are pairs of group-rational KAN layers.

    x = x + attention(norm(x)); x = x + mlp(norm(x)) with `kanvision.layers.GroupRationalMlp` as the mlp.

    Args:
        *args: Arguments of timm's VisionTransformer.
        act_init: Initial function of the second activation of a block, a key of
            `kanvision.layers.RATIONAL_PRESETS`.
        act1_init: Initial function of the first activation, "identity" as published.
        num_groups: Number of channel groups, each with a denominator; two numbers for the two rationals.
        share_numerator: Share one numerator between all groups of an activation (published).
        checkpoint: Recompute activations in the backward pass, which halves the memory of a feed-forward
            block, see `GroupRationalMlp`.
        plain: Build the plain twin: timm's feed-forward blocks with GELU, and everything else as in KAT.
        init: "released" draws the linear maps of the feed-forward blocks from N(0, 0.02^2), as the published
            code does in effect; "variance_preserving" is the paper's rule, variance 1 / (fan_in E[act(x)^2]).
        attn_init: "mimetic" (published) or "default": queries, keys and values uniform within
            sqrt(6 / (2 D)), the projection from N(0, 0.02^2).
        weight_init: "skip" keeps the parameters as initialized by their layers, "" initializes them.
        **kwargs: Arguments of timm's VisionTransformer, except `mlp_layer`.

    Raises:
        ValueError: A value is not legal, `num_groups` does not divide the widths, or `mlp_layer` is given.
    """

    def __init__(
        self,
        *args: Any,
        act_init: str = "swish",
        act1_init: str = "identity",
        num_groups: int | tuple[int, int] = 8,
        share_numerator: bool = True,
        checkpoint: bool = False,
        plain: bool = False,
        init: KATInit = "released",
        attn_init: KATAttentionInit = "mimetic",
        weight_init: Literal["", "skip"] = "",
        **kwargs: Any,
    ) -> None:
        for key, value, legal in (
            ("init", init, KAT_INITS),
            ("attn_init", attn_init, KAT_ATTENTION_INITS),
            ("weight_init", weight_init, ("", "skip")),
        ):
            if value not in legal:
                raise ValueError(f"{key}={value!r} is not known; legal: {', '.join(map(repr, legal))}.")
        if "mlp_layer" in kwargs:
            raise ValueError("mlp_layer is fixed in KAT; use VisionTransformer of timm for another one.")
        if plain and init == "variance_preserving":
            raise ValueError("plain=True: init='variance_preserving' is a rule for rationals; use 'released'")
        if not plain:
            kwargs["mlp_layer"] = partial(
                GroupRationalMlp,
                act_init=act_init,
                act1_init=act1_init,
                num_groups=num_groups,
                share_numerator=share_numerator,
                checkpoint=checkpoint,
            )
        super().__init__(*args, **kwargs | {"weight_init": "skip"})
        self.init = init
        self.attn_init = attn_init
        if weight_init != "skip":
            self.init_weights(needs_reset=False)

    @torch.no_grad()
    def init_weights(self, mode: str = "", needs_reset: bool = True) -> None:
        """Initialize all parameters; do nothing on the meta device.

        Args:
            mode: "released" or "variance_preserving"; if empty, the `init` of the model.
            needs_reset: Call `reset_parameters` of all layers first, for parameters in uninitialized memory.
        """
        if next(self.parameters()).is_meta:
            return
        if needs_reset:
            for module in self.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
        if self.pos_embed is not None:
            trunc_normal_(self.pos_embed, std=0.02)
        for token in (self.cls_token, self.reg_token):
            if token is not None:
                nn.init.normal_(token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in cast(Any, self.blocks):
            if (mode or self.init) == "variance_preserving":
                block.mlp.init_variance_preserving()
            if self.attn_init == "mimetic":
                init_mimetic_attention(block.attn)
            else:
                bound = (6 / (block.attn.qkv.out_features / 3 + block.attn.qkv.in_features)) ** 0.5
                nn.init.uniform_(block.attn.qkv.weight, -bound, bound)
        if self.fix_init:
            self.fix_init_weight()


# A name without an activation means Swish. "gelu" starts as GELU; the published code of that name starts from
# constants that are not GELU (act_init="kat_gelu").
_VARIANTS = {"": "swish", "_swish": "swish", "_gelu": "gelu"}
for _infix, _act_init in _VARIANTS.items():
    for _img_size in (224, 384):
        _options: dict[str, Any] = {"img_size": _img_size, "act_init": _act_init}
        register_sizes(
            __name__,
            f"kat_{{size}}{_infix}_patch16_{_img_size}",
            {size: {**shape, **_options} for size, shape in VIT_SIZES.items() if size != "micro"},
            partial(build_transformer, KAT),
            transformer_cfg(_img_size),
        )
register_sizes(
    __name__,
    "kat_{size}_patch16_224",
    {"micro": {**VIT_SIZES["micro"], "img_size": 224}},
    partial(build_transformer, KAT),
    transformer_cfg(224),
)
