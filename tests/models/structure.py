"""Numbers of parameters by structure, written without the networks that they are compared with."""


def conv(fan_in: int, width: int, kernel: int = 3, bias: bool = True, groups: int = 1) -> int:
    """Weights of a square kernel, and biases."""
    return kernel * kernel * fan_in // groups * width + bias * width


def norm(width: int) -> int:
    """Scale and shift."""
    return 2 * width


batch_norm = layer_norm = instance_norm = norm


def linear(fan_in: int, width: int) -> int:
    """Weights and biases."""
    return fan_in * width + width


def conv_pair(fan_in: int, width: int, inner: int | None = None) -> int:
    """Two 3x3 convolutions with biases, a batch norm after each."""
    inner = width if inner is None else inner
    return conv(fan_in, inner) + batch_norm(inner) + conv(inner, width) + batch_norm(width)
