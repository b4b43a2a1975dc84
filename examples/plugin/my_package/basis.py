"""Hat functions. Shapes: C channels, K basis functions."""

import torch
from torch import Tensor

from kanvision.bases import Basis, Squash, register_basis


@register_basis
class HatBasis(Basis):
    """Hat functions with equidistant centers in (-2, 2), phi_j(x) = relu(1 - |x - c_j| / h)."""

    name = "hat"
    centers: Tensor

    def __init__(
        self, num_centers: int = 8, *, squash: Squash | None = None, num_channels: int | None = None
    ) -> None:
        super().__init__(num_basis=num_centers, domain=(-2.0, 2.0), squash=squash, num_channels=num_channels)
        self._constant("centers", num_centers)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Compute the centers."""
        self.centers.copy_(torch.linspace(-2, 2, self.num_basis, device="cpu"))

    def expand(self, x: Tensor, dim: int) -> Tensor:
        """Return the values of the functions, with K inserted at axis `dim`."""
        shape = [1] * (x.ndim + 1)
        shape[dim] = -1
        distance = (x.unsqueeze(dim) - self.centers.to(x.dtype).view(shape)) * ((self.num_basis - 1) / 4)
        return torch.relu(1 - distance.abs())
