"""The published networks of torch-conv-kan on their own tensors: an oracle.

Functions make the tensors of a network and return its forward pass. They are written from the facts of the
published code, not from our size tables.
"""

import torch
import torch.nn.functional as F

from .reference_blocks import (
    below,
    published_attention,
    published_bottleneck,
    random_attention,
    random_bottleneck,
)
from .reference_layers import (
    DEGREE,
    published_conv,
    published_linear,
    random,
    random_conv,
    random_linear,
    random_norm,
)


class Net:
    """Random tensors of a published network and its forward pass.

    Args:
        kind: of its layers: a kind of `published_layers`, or "bottleneck_kagn", "bottleneck_moe_kagn".
        norm: of its layers.
        affine: of its norms.
        groups: of its layers but the first and those of size 1.
        degree: of polynomials.
        experts: of mixtures.
        options: of every layer, `base_act` for instance.
    """

    def __init__(self, kind, *, norm="batch", affine=True, groups=1, degree=DEGREE, experts=3, **options):
        self.kind, self.norm, self.affine, self.groups, self.options = kind, norm, affine, groups, options
        self.degree, self.experts = degree, experts
        self.state = {}
        self.groups_of, self.kind_of = {}, {}
        self.norms = {}
        """Norms of layers of another kind."""

    def add(self, prefix, inputs, outputs, kernel=3, *, first=False, kind=None, norm=None):
        """Make the tensors of a layer."""
        kind = kind or self.kind
        groups = 1 if first or kernel == 1 else self.groups
        self.groups_of[prefix], self.kind_of[prefix] = groups, kind
        sizes = {"groups": groups, "c": inputs // groups, "o": outputs // groups, "kernel": kernel}
        sizes |= {"norm": norm or self.norms.get(kind, self.norm), "affine": self.affine}
        sizes["degree"] = self.degree
        if kind.startswith("bottleneck_"):
            inner = kind.removeprefix("bottleneck_")
            widest = max(sizes["c"], sizes["o"]) / (8 if kernel == 3 else 4)
            m = int(widest) if widest >= 16 else min(16, sizes["c"], sizes["o"])
            part = random_bottleneck(inner, 2, m=m, experts=self.experts, **sizes)
        else:
            part = random_conv(kind, 2, **sizes)
        self.state |= {prefix + name: value for name, value in part.items()}

    def run(self, prefix, x, stride=1):
        """The forward pass of a layer."""
        part, kind = below(self.state, prefix), self.kind_of[prefix]
        kernel = next(
            v for k, v in part.items() if (k.endswith("_weights") and v.ndim > 3) or "conv" in k
        ).shape[-1]
        geometry = {"stride": stride, "padding": kernel // 2, "groups": self.groups_of[prefix]}
        if kind.startswith("bottleneck_"):
            return published_bottleneck(kind.removeprefix("bottleneck_"), part, x, **geometry)
        return published_conv(kind, part, x, **geometry, **self.options)

    def attend(self, prefix, channels, inner=None):
        kind, width = self.kind, inner or channels
        m = min(16, width // self.groups) if width < 128 * self.groups else width // self.groups // 8
        sizes = {"groups": self.groups, "width": width, "channels": channels if inner else None, "m": m}
        sizes |= {"norm": self.norm, "affine": self.affine, "degree": self.degree}
        part = random_attention(kind, 2, **sizes)
        self.state |= {prefix + name: value for name, value in part.items()}

    def attended(self, prefix, x):
        return published_attention(self.kind, below(self.state, prefix), x, groups=self.groups)


class MixedDense(Net):
    """Only the 3x3 convolutions are mixtures."""

    def add(self, prefix, inputs, outputs, kernel=3, **options):
        kind = self.kind if kernel == 3 else "bottleneck_kagn"
        super().add(prefix, inputs, outputs, kernel, **{"kind": kind, **options})


def random_plain(inputs, outputs):
    return {"weight": random(outputs, inputs) * inputs**-0.5, "bias": random(outputs)}


class Head:
    """A published classifier behind a flattened map.

    Args:
        form: "linear" (behind dropout), "bare", "vgg", "kan", "hidden_kan", "matryoshka", "kantryoshka".
        kind: of KAN layers.
        act: of KAN layers.
    """

    def __init__(self, form, kind, features, classes=3, act=F.silu, hidden=8, dropout=True, degree=DEGREE):
        self.form, self.kind, self.act = form, kind, act
        index = 1 if dropout else 0
        plain = {
            "linear": {"1.": (features, classes)},
            "bare": {"": (features, classes)},
            "vgg": {"0.": (features, hidden), "3.": (hidden, hidden), "6.": (hidden, classes)},
            "kan": {},
            "hidden_kan": {"2.": (hidden, classes)},
            "matryoshka": {"0.": (features, hidden), "3.nesting_classifier_0.": (hidden, classes)},
            "kantryoshka": {"2.nesting_classifier_0.": (hidden, classes)},
        }[form]
        layers = {"kan": (f"layers.{index}.", classes)}
        layers |= dict.fromkeys(("hidden_kan", "kantryoshka"), (f"0.layers.{index}.", hidden))
        self.state = {p + k: v for p, sizes in plain.items() for k, v in random_plain(*sizes).items()}
        self.plain, self.layer = list(plain), None
        if form in layers:
            self.layer, outputs = layers[form]
            self.state |= {
                self.layer + k: v for k, v in random_linear(kind, features, outputs, degree=degree).items()
            }

    def __call__(self, x):
        if self.layer is not None:
            x = published_linear(self.kind, below(self.state, self.layer), x, act=self.act)
        for index, prefix in enumerate(self.plain):
            if index:
                x = F.relu(x)
            x = F.linear(x, self.state[f"{prefix}weight"], self.state[f"{prefix}bias"])
        return x


def simple_net(net, widths, strides, channels=3):
    """Convolutions `layers.0` ..., all but the first inside the L1 wrapper; returns the forward pass."""
    for index, width in enumerate(widths):
        net.add(f"layers.{index}.", channels, width, first=not index)
        channels = width

    def forward(x):
        for index, stride in enumerate(strides):
            x = net.run(f"layers.{index}.", x, stride)
        return x.mean((2, 3))

    return forward


def wrapped(state):
    """The names that the published L1 wrapper makes."""
    return {
        name
        if name.startswith(("layers.0.", "output."))
        else name.replace(".", "#", 1).replace(".", ".module.", 1).replace("#", "."): value
        for name, value in state.items()
    }


def vgg_net(net, pattern, pool, channels=3, last_attention=False, inner=None):
    """`features.0` ... from a pattern of widths, "M" for pooling, "SAM" for attention and pooling."""
    steps, index = [], 0
    for step, item in enumerate(pattern):
        prefix = f"features.{index}."
        if item in ("M", "SAM"):
            if item == "SAM":
                net.attend(prefix, channels, inner and channels // inner)
                steps.append(("attend", prefix))
                index += 1
            steps.append(("pool", None))
        elif last_attention and step == len(pattern) - 1:
            net.attend(prefix, channels, inner and channels // inner)
            steps.append(("attend", prefix))
        else:
            net.add(prefix, channels, item, first=not step)
            steps.append(("conv", prefix))
            channels = item
        index += 1

    def forward(x):
        for step, prefix in steps:
            if step == "pool":
                x = F.max_pool2d(x, 2)
            else:
                x = net.run(prefix, x) if step == "conv" else net.attended(prefix, x)
        return F.adaptive_avg_pool2d(x, pool).flatten(1)

    return forward


def res_net(
    net,
    depths,
    width,
    *,
    block="basic",
    stem=3,
    stride=1,
    pool=False,
    stem_width=None,
    stem_norm=None,
    pointwise=None,
    stem_kind=None,
):
    """`conv1` and blocks `layer1.0` ...; planes width, 2 width ..., bottlenecks give four times as many."""
    expansion = 4 if block == "bottleneck" else 1
    channels = stem_width or width
    net.add("conv1.", 3, channels, stem, first=True, norm=stem_norm, kind=stem_kind)
    blocks = []
    for stage, depth in enumerate(depths):
        planes = width * 2**stage
        for number in range(depth):
            prefix, step = f"layer{stage + 1}.{number}.", 2 if stage and not number else 1
            if block == "basic":
                net.add(f"{prefix}conv1.", channels, planes)
                net.add(f"{prefix}conv2.", planes, planes, 1, kind=pointwise)
            else:
                inner = planes * net.groups
                net.add(f"{prefix}conv1.", channels, inner, 1)
                net.add(f"{prefix}conv2.", inner, inner)
                net.add(f"{prefix}conv3.", inner, 4 * planes, 1)
            shortcut = step != 1 or channels != planes * expansion
            if shortcut:
                net.add(f"{prefix}downsample.", channels, planes * expansion, 1, kind=pointwise)
            channels = planes * expansion
            blocks.append((prefix, step, shortcut))

    def forward(x):
        x = net.run("conv1.", x, stride)
        x = F.max_pool2d(x, 3, 2, 1) if pool else x
        for prefix, step, shortcut in blocks:
            identity = net.run(f"{prefix}downsample.", x, step) if shortcut else x
            if block == "basic":
                y = net.run(f"{prefix}conv2.", net.run(f"{prefix}conv1.", x, step))
            else:
                y = net.run(f"{prefix}conv2.", net.run(f"{prefix}conv1.", x), step)
                y = net.run(f"{prefix}conv3.", y)
            x = y + identity
        return x.mean((2, 3))

    return forward, channels


def dense_net(net, depths, *, growth=4, width=6, stem=7, pool=True, expansion=4, last=False):
    """`features.conv0`, dense blocks and transitions."""
    net.add("features.conv0.", 3, width, stem, first=True)
    channels = width
    for block, depth in enumerate(depths, 1):
        for number in range(1, depth + 1):
            prefix = f"features.denseblock{block}.denselayer{number}."
            net.add(f"{prefix}conv1.", channels, expansion * growth, 1)
            net.add(f"{prefix}conv2.", expansion * growth, growth)
            channels += growth
        if last or block < len(depths):
            prefix = f"features.transition{block}."
            net.state |= random_norm(f"{prefix}norm", channels, "batch", True)
            net.state[f"{prefix}conv.weight"] = random(channels // 2, channels, 1, 1) * channels**-0.5
            channels //= 2

    def transition(prefix, x):
        part = below(net.state, prefix)
        statistics = (part["norm.running_mean"], part["norm.running_var"])
        x = F.batch_norm(x, *statistics, part["norm.weight"], part["norm.bias"])
        return F.avg_pool2d(F.conv2d(F.selu(x), part["conv.weight"]), 2)

    def forward(x):
        x = net.run("features.conv0.", x, 2)
        x = F.max_pool2d(x, 3, 2, 1) if pool else x
        for block, depth in enumerate(depths, 1):
            for number in range(1, depth + 1):
                prefix = f"features.denseblock{block}.denselayer{number}."
                x = torch.cat([x, net.run(f"{prefix}conv2.", net.run(f"{prefix}conv1.", x))], 1)
            if last or block < len(depths):
                x = transition(f"features.transition{block}.", x)
        return x.mean((2, 3))

    return forward, channels
