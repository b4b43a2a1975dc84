"""Kolmogorov-Arnold attention for timm's models. B batch, h heads, N tokens, d channels of a head."""

from __future__ import annotations

from functools import partialmethod
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.models.swin_transformer import WindowAttention
from torch import Tensor, nn

from kanvision.spec.models import KARAT_MASKS

from .karat_operator import KArAtOperator

__all__ = ["KArAtWindowAttention", "KArAttention", "karat_attn_layer"]

_PUBLISHED_MASK = -100.0
# Attributes of timm's Attention besides the number of heads; a converted attention may lack some of them.
_PARTS = ("qkv", "q_norm", "k_norm", "attn_drop", "norm", "gate", "proj", "proj_drop")


class KArAttention(Attention):
    """Self-attention of timm in which learned functions of the logits replace the softmax.

    y = proj(concat_h(sigma_h(scale q k^T) v)) with sigma by `KArAtOperator`, which has the formula and the
    options; see `karat_attn_layer` for use as `attn_layer` of timm's models.

    Masks: with `mask_mode="zero"` a masked key contributes nothing to a query, neither through the functions
    of its logit nor through its value. "additive_paper" is the behavior of the published code, which masks as
    for softmax: it adds -100 to the logit, and cos(x - 100) is not small.

    Args:
        dim: Number of features.
        num_heads: Number of heads, h.
        *args: Further arguments of timm's Attention.
        num_tokens: Number of tokens, prefix tokens included, N.
        num_softmax_heads: Number of heads that keep the softmax, the first ones.
        mask_mode: "zero" or "additive_paper".
        operator: Operator shared with other blocks, which does not become a child of this module. None builds
            one from `options`.
        options: Arguments of `KArAtOperator`.
        **kwargs: Further arguments of timm's Attention.

    Raises:
        ValueError: A value is not legal, or the operator has another number of heads.
    """

    operator: KArAtOperator

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        *args: Any,
        num_tokens: int,
        num_softmax_heads: int = 0,
        mask_mode: str = "zero",
        operator: KArAtOperator | None = None,
        options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dim, num_heads, *args, **kwargs)
        if mask_mode not in KARAT_MASKS:
            raise ValueError(f"mask_mode={mask_mode!r} is not known; legal values: {', '.join(KARAT_MASKS)}")
        if not 0 <= num_softmax_heads < num_heads:
            raise ValueError(f"num_softmax_heads={num_softmax_heads} must be below num_heads={num_heads}")
        self.num_softmax_heads = num_softmax_heads
        self.mask_mode = mask_mode
        where = {"device": self.qkv.weight.device, "dtype": self.qkv.weight.dtype}
        _give_operator(self, num_heads - num_softmax_heads, num_tokens, operator, options, where)

    @classmethod
    def from_attention(cls, attn: nn.Module, num_tokens: int, **kwargs: Any) -> KArAttention:
        """Return an attention with the linear maps, norms and dropouts of another attention.

        Args:
            attn: Attention of timm, or one with `num_heads`, a fused `qkv` and a `proj` of the same width.
            num_tokens: Number of tokens, N.
            **kwargs: Arguments of `KArAttention`.

        Raises:
            ValueError: The attention has no such maps.
        """
        qkv, proj, heads = (getattr(attn, name, None) for name in ("qkv", "proj", "num_heads"))
        if not isinstance(qkv, nn.Linear) or not isinstance(proj, nn.Linear) or not isinstance(heads, int):
            raise ValueError(
                f"KArAttention takes over an attention with num_heads and linear qkv and proj; "
                f"{type(attn).__name__} has not all of them"
            )
        with torch.device("meta"):
            new = cls(
                qkv.in_features,
                heads,
                attn_head_dim=qkv.out_features // 3 // heads,
                num_tokens=num_tokens,
                operator=_build_placeholder(heads - kwargs.get("num_softmax_heads", 0)),
                **{key: value for key, value in kwargs.items() if key not in ("operator", "options")},
            )
        for name in _PARTS:
            if hasattr(attn, name):
                setattr(new, name, getattr(attn, name))
        where = {"device": qkv.weight.device, "dtype": qkv.weight.dtype}
        given = (kwargs.get("operator"), kwargs.get("options"))
        _give_operator(new, heads - new.num_softmax_heads, num_tokens, *given, where)
        return new.train(attn.training)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Map (B, N, D) to (B, N, D).

        Args:
            x: Tokens.
            attn_mask: Mask with False or -inf for masked keys; other numbers are added to the logits.
            is_causal: Mask later tokens.

        Raises:
            ValueError: The number of tokens is not N.
        """
        q, k, v = self._heads(x)
        bias, keep = self._masks(attn_mask, is_causal, x)
        soft = self.num_softmax_heads
        drop_rate = self.attn_drop.p if self.training else 0.0
        out = self.operator(
            q[:, soft:],
            k[:, soft:],
            v[:, soft:],
            self.scale,
            _select_heads(bias, soft, None),
            _select_heads(keep, soft, None),
            drop_rate,
        )
        if soft:
            mask = _select_heads(_as_additive(bias, keep, x), None, soft)
            usual = F.scaled_dot_product_attention(q[:, :soft], k[:, :soft], v[:, :soft], mask, drop_rate)
            out = torch.cat((usual, out), 1)
        out = out.transpose(1, 2).flatten(2)  # (B, N, h d)
        out = self.norm(out)
        if self.gate is not None:
            out = out * self.gate(x).sigmoid()
        return cast(Tensor, self.proj_drop(self.proj(out)))

    def attention(self, x: Tensor, attn_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the matrices before and after the activation, (B, h, N, N) each, softmax heads first."""
        q, k, _ = self._heads(x)
        bias, keep = self._masks(attn_mask, False, x)
        soft = self.num_softmax_heads
        masks = (_select_heads(mask, soft, None) for mask in (bias, keep))
        before, after = self.operator.attention(q[:, soft:], k[:, soft:], self.scale, *masks)
        if not soft:
            return before, after
        logits = self.scale * (q[:, :soft] @ k[:, :soft].mT).to(before.dtype)
        mask = _select_heads(_as_additive(bias, keep, x), None, soft)
        usual = (logits if mask is None else logits + mask).softmax(-1)
        return torch.cat((logits, before), 1), torch.cat((usual, after), 1)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (B, h, N, d)."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        return self.q_norm(q), self.k_norm(k), v

    def _masks(self, mask: Tensor | None, is_causal: bool, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the additive mask of the logits, and the mask of visible keys."""
        bias = keep = None
        if is_causal:
            keep = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        elif mask is not None and mask.dtype == torch.bool:
            keep = mask
        elif mask is not None:
            keep = mask > float("-inf")
            bias = mask.masked_fill(~keep, 0.0)
        return _published(bias, keep, x) if self.mask_mode == "additive_paper" else (bias, keep)

    def extra_repr(self) -> str:
        """Return the options for `repr`; a shared operator is printed by its owner."""
        shared = "operator" not in self._modules
        return (
            f"num_softmax_heads={self.num_softmax_heads}, mask_mode={self.mask_mode!r}, "
            f"shared_operator={shared}"
        )


class KArAtWindowAttention(WindowAttention):
    """Window attention of Swin in which learned functions of the biased logits replace the softmax.

    Functions belong to positions in the window and are shared by all windows. For the masks of shifted
    windows see `mask_mode` of `KArAttention`.

    Args:
        attn: Attention whose maps it uses.
        mask_mode: "zero" or "additive_paper".
        **options: Arguments of `KArAtOperator`.

    Raises:
        ValueError: A value is not legal.
    """

    operator: KArAtOperator

    def __init__(self, attn: WindowAttention, mask_mode: str = "zero", **options: Any) -> None:
        if mask_mode not in KARAT_MASKS:
            raise ValueError(f"mask_mode={mask_mode!r} is not known; legal values: {', '.join(KARAT_MASKS)}")
        nn.Module.__init__(self)
        self.__dict__.update({k: v for k, v in attn.__dict__.items() if not k.startswith("_")})
        for name in ("qkv", "attn_drop", "proj", "proj_drop", "relative_position_bias_table"):
            setattr(self, name, getattr(attn, name))
        self.register_buffer("relative_position_index", None, persistent=False)
        self.relative_position_index = attn.relative_position_index
        self.mask_mode = mask_mode
        where = {"device": attn.qkv.weight.device, "dtype": attn.qkv.weight.dtype}
        _give_operator(self, attn.num_heads, attn.window_area, None, options, where)
        self.train(attn.training)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map tokens of windows, (windows B, N, D), to the same shape.

        Args:
            x: Tokens of windows, those of one image side by side.
            mask: Mask (windows, N, N), negative for masked keys.
        """
        windows, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(windows, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (windows B, h, N, d)
        bias: Tensor | None = self._get_rel_pos_bias()
        keep: Tensor | None = None
        if mask is not None:
            keep = (mask == 0).repeat(windows // mask.shape[0], 1, 1).unsqueeze(1)  # (windows B, 1, N, N)
            if self.mask_mode == "additive_paper":
                bias, keep = _published(bias, keep, x)
        drop_rate = self.attn_drop.p if self.training else 0.0
        out = self.operator(q, k, v, self.scale, bias, keep, drop_rate)
        out = out.transpose(1, 2).flatten(2)  # (windows B, N, h d)
        return cast(Tensor, self.proj_drop(self.proj(out)))

    def set_window_size(self, window_size: tuple[int, int]) -> None:
        """Interpolate the position bias and the operator for another window size."""
        before = self.window_size
        super().set_window_size(window_size)
        if self.window_size != before:
            self.operator.resize(before, self.window_size)


def karat_attn_layer(
    num_tokens: int,
    *,
    num_softmax_heads: int = 0,
    mask_mode: str = "zero",
    **options: Any,
) -> type[KArAttention]:
    """Return a class for `attn_layer` of timm's models: `KArAttention` with fixed arguments.

    Args:
        num_tokens: Number of tokens of the model, class token included, N.
        num_softmax_heads: As in `KArAttention`.
        mask_mode: As in `KArAttention`.
        **options: Arguments of `KArAtOperator`.
    """
    given: dict[str, Any] = {
        "num_tokens": num_tokens,
        "num_softmax_heads": num_softmax_heads,
        "mask_mode": mask_mode,
        "options": options,
    }
    return type("KArAttention", (KArAttention,), {"__init__": partialmethod(KArAttention.__init__, **given)})


def _give_operator(
    attn: nn.Module,
    num_heads: int,
    num_tokens: int,
    operator: KArAtOperator | None,
    options: dict[str, Any] | None,
    where: dict[str, Any],
) -> None:
    """Set `attn.operator`, as a child or, if shared, not as a child, so that it is saved once."""
    if operator is None:
        attn.operator = KArAtOperator(num_heads, num_tokens, **(options or {}), **where)
        return
    if operator.num_heads != num_heads:
        raise ValueError(f"the operator has num_heads={operator.num_heads}, the attention needs {num_heads}")
    attn._modules.pop("operator", None)
    attn.__dict__["operator"] = operator


def _build_placeholder(num_heads: int) -> KArAtOperator:
    """Return a placeholder module."""
    return KArAtOperator(max(1, num_heads), 1, 1, device="meta")


def _published(bias: Tensor | None, keep: Tensor | None, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
    if keep is None:
        return bias, None
    hidden = torch.zeros(keep.shape, device=x.device, dtype=x.dtype).masked_fill(~keep, _PUBLISHED_MASK)
    return (hidden if bias is None else bias + hidden), None


def _as_additive(bias: Tensor | None, keep: Tensor | None, x: Tensor) -> Tensor | None:
    """Combine both masks into one for a softmax."""
    if keep is None:
        return bias
    hidden = torch.zeros(keep.shape, device=x.device, dtype=x.dtype).masked_fill(~keep, float("-inf"))
    return hidden if bias is None else bias + hidden


def _select_heads(mask: Tensor | None, first: int | None, last: int | None) -> Tensor | None:
    """Return the part of a mask (..., N, N) that belongs to some heads, (B or 1, h or 1, N, N)."""
    if mask is None or mask.ndim == 2:
        return mask
    mask = mask.unsqueeze(1) if mask.ndim == 3 else mask
    return mask if mask.shape[1] == 1 else mask[:, first:last]
