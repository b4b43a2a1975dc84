"""Learned activation of KAT: one safe Pade rational for each group of channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from kanvision.ops.rational import FORMS, rational

from .functions import FunctionPlot
from .rational_fit import fit_rational

__all__ = ["RATIONAL_PRESETS", "GroupRational"]

Coefficients = tuple[tuple[float, ...], tuple[float, ...]]

# fmt: off
RATIONAL_PRESETS: dict[str, Coefficients] = {
    "identity": ((0.0, 1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)),
    "swish": (
        (3.054879741161051e-07, 0.5000007853744493, 0.24999783422824703,
         0.05326628273219478, 0.005803034571292244, 0.0002751961022402342),
        (-4.111554955950634e-06, 0.10652899335007572, -1.2690007399796238e-06, 0.0005502331264140556),
    ),
    "gelu": (
        (-0.00133066, 0.506575, 0.414813, 0.126457, 0.0216642, 0.00239138),
        (0.0549495, 0.185965, 0.0308934, 8.12e-09),
    ),
    "mish": (
        (5.9458e-05, 0.600959, 0.319865, 0.132827, 0.034517, 0.00357275),
        (0.0099858, 0.226058, 0.021739, 0.00424606),
    ),
    "relu": (
        (0.029963801610813613, 0.6168978366891341, 2.37534759733888,
         3.0659900472408443, 1.5246831881677423, 0.2528070864040542),
        (-1.191550121923625, 4.4080487697236626, 0.9110357113686055, 0.34884977946384615),
    ),
    "leaky_relu": (
        (0.029792778657264946, 0.6183735264987601, 2.323309062531321,
         3.051936237265109, 1.4854203263828845, 0.2510244961111299),
        (-1.1419548357285474, 4.393159974992486, 0.8714712309957245, 0.34719662339598834),
    ),
    "leaky_relu_0.1": (
        (0.028001623256966722, 0.6356606448768645, 1.9230178392192485,
         2.96752700768763, 1.1911336843997844, 0.23922607056505849),
        (-0.7802079437303349, 4.278190623059944, 0.5865922075979962, 0.33447021316466974),
    ),
    "tanh": (
        (-1.0804622559204184e-08, 1.0003008043819048, -2.5878199375289335e-08,
         0.09632129918392647, 3.4775841628196104e-09, 0.0004255709234726337),
        (-0.0013027181209176277, 0.428349017422072, 1.4524304083061898e-09, 0.010796648111337176),
    ),
    "sigmoid": (
        (0.4999992534599381, 0.25002157564685185, 0.14061924500301096,
         0.049420492431596394, 0.00876714851885483, 0.0006442412789159799),
        (2.1694506382753683e-09, 0.28122766100417684, 1.0123620714203357e-05, 0.017531988049946),
    ),
    "kat_gelu": (
        (-0.00153969, 0.51692871, 0.44075827, 0.0972553, -0.00884418, -0.00378675),
        (-0.14171056, -0.06481231, -0.0444695, 0.01283776),
    ),
    "kat_gelu_old": (
        (-0.0012423594497499122, 0.5080497063245629, 0.41586363182937475,
         0.13022718688035761, 0.024355900098993424, 0.00290283948155535),
        (-0.06675015696494944, 0.17927646217001553, 0.03746682605496631, 1.6561610853276082e-10),
    ),
    "kat_geglu": (
        (0.00079642, -0.00602563, 0.49750578, 0.47691076, 0.15421425, 0.0168486),
        (-0.12619161, -0.20067464, -0.03005465, 0.0027335),
    ),
    "kat_swishglu": (
        (-0.00111528, -0.00334562, 0.53107663, 0.27851476, 0.06044361, 0.00483468),
        (0.14408492, 0.02008671, 0.02944107, -0.00329516),
    ),
    "kat_erfc_softplus_2": (
        (0.10685354, -0.23290146, 0.19928975, -0.08317628, 0.01685602, -0.0013217),
        (-0.04596856, 0.4134001, 0.01430384, 0.03504373),
    ),
}
# fmt: on
"""Start values (a_0 ... a_5, b_1 ... b_4) by name, fitted on [-3, 3] (identity is exact).

"gelu" and "mish" are least-squares fits of this form (errors below 3.8e-3 and 2e-4 on [-3, 3]). The names
with the prefix "kat_" are further constants of the published KAT code. Except for "kat_gelu_old" they were
fitted for another denominator, 1 + |sum_j b_j x^j|, and are not the functions of their names here: "kat_gelu"
is off by up to 1.46.
"""


class GroupRational(FunctionPlot, nn.Module):
    """Group-wise safe Pade rational, the activation of "Kolmogorov-Arnold Transformer" (arXiv 2409.10594).

    y = (a_0 + a_1 x + ... + a_5 x^5) / (1 + |b_1||x| + ... + |b_4||x|^4), with one b for each group of
    contiguous channels and, as in the published code and weights, one a for all groups; see
    `kanvision.ops.rational`, also for the form of the paper's text, 1 + |b_1 x + ... + b_4 x^4|.

    Args:
        num_channels: Number of channels, D.
        num_groups: Number of groups, G.
        init: Initial function, a key of `RATIONAL_PRESETS`.
        share_numerator: Share one numerator between all groups (published code); False is one numerator for
            each group (text of the paper).
        channel_dim: Axis of the channels; 1 for (B, C, H, W).
        form: "kernel" or "paper"; presets and `imitate` mean the former.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        ValueError: `num_groups` does not divide `num_channels`, or `init` or `form` is not a legal name.
    """

    kan_parameters: ClassVar[tuple[str, ...]] = ("numerator", "denominator")

    def __init__(
        self,
        num_channels: int,
        num_groups: int = 8,
        init: str = "identity",
        share_numerator: bool = True,
        channel_dim: int = -1,
        form: str = "kernel",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels < 1 or num_channels % num_groups:
            raise ValueError(
                f"num_channels={num_channels} cannot be split into num_groups={num_groups} equal groups."
            )
        if init not in RATIONAL_PRESETS:
            raise ValueError(f"init={init!r} is not a preset; legal: {', '.join(RATIONAL_PRESETS)}.")
        if form not in FORMS:
            raise ValueError(f"form={form!r} is not known; legal: {', '.join(FORMS)}.")
        self.form = form
        self.num_channels = num_channels
        self.num_groups = num_groups
        self.init = init
        self.channel_dim = channel_dim
        self.start = a, b = RATIONAL_PRESETS[init]
        numerator_rows = 1 if share_numerator else num_groups
        self.numerator = nn.Parameter(torch.empty(numerator_rows, len(a), device=device, dtype=dtype))
        self.denominator = nn.Parameter(torch.empty(num_groups, len(b), device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize as the function named by `init`, or as the last function given to `imitate`."""
        for parameter, start in zip((self.numerator, self.denominator), self.start, strict=True):
            parameter.copy_(torch.tensor(start, dtype=torch.float64))

    def imitate(self, function: Callable[[Tensor], Tensor], limit: float = 10.0) -> float:
        """Set the coefficients to those closest to an elementwise function, see `fit_rational`.

        Args:
            function: Elementwise; called on float64.
            limit: End of the interval.

        Returns:
            The largest |F(x) - f(x)| / (0.1 + |x|) on [-limit, limit].

        Raises:
            ValueError: The function is not elementwise or not finite there, or `limit` is not positive.
        """
        numerator, denominator, error = fit_rational(function, limit)
        self.init, self.start = repr(function), (numerator, denominator)
        self.reset_parameters()
        return error

    def forward(self, x: Tensor) -> Tensor:
        """Apply the rational elementwise to any shape with D channels at `channel_dim`.

        Raises:
            ValueError: That axis does not have D channels.
        """
        if x.shape[self.channel_dim] != self.num_channels:
            raise ValueError(
                f"GroupRational has num_channels={self.num_channels} at axis {self.channel_dim}, "
                f"got an input of shape {tuple(x.shape)}."
            )
        return rational(x, self.numerator, self.denominator, self.channel_dim, self.form)

    @property
    def flops_per_input(self) -> int:
        """Return the operations for one value: two Horner schemes, an absolute value and a quotient."""
        return 2 * (self.numerator.shape[1] - 1) + 2 * self.denominator.shape[1] + 2

    @torch.no_grad()
    def second_moment(self) -> Tensor:
        """Return E[F(x)^2] of each group for x ~ N(0, 1), shape (G,), by midpoints of 2^16 quantiles.

        By the variance-preserving rule the weights of the next linear map have the variance
        1 / (fan_in * second_moment).
        """
        num_points = 2**16
        points = torch.arange(num_points, device=self.numerator.device, dtype=torch.float64)
        quantiles = torch.special.ndtri((points + 0.5) / num_points)
        grid = quantiles.unsqueeze(-1).expand(-1, self.num_groups)  # (points, G): one channel a group
        values = rational(grid, self.numerator, self.denominator, form=self.form)
        return values.square().mean(0)

    def extra_repr(self) -> str:
        """Return sizes and initialization for `repr`."""
        shared = self.numerator.shape[0] == 1
        return (
            f"{self.num_channels}, num_groups={self.num_groups}, init={self.init!r}, "
            f"share_numerator={shared}, channel_dim={self.channel_dim}, form={self.form!r}"
        )
