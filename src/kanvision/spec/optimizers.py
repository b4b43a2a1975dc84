"""Optimizers of timm: those that train and resume exactly, and those that are refused."""

from __future__ import annotations

__all__ = ["OPTIMIZERS", "UNSUPPORTED_OPTIMIZERS", "base_optimizer_name"]

# fmt: off
OPTIMIZERS: tuple[str, ...] = (
    "adabelief", "adadelta", "adafactor", "adafactorbv", "adafactorbvc", "adagrad", "adam", "adamax",
    "adamc", "adamp", "adamuon", "adamw", "adamwlegacy", "adan", "adanw", "adopt", "adoptc", "adoptw",
    "cadafactor", "cadafactorbv", "cadafactorbvc", "cadamc", "cadamp", "cadamw", "cadan", "cadanw",
    "cadopt", "cadoptc", "cadoptw", "clamb", "clambw", "claprop", "clion", "clionc", "cmars", "cnadamc",
    "cnadamw", "crmsproptf", "csgdc", "csgdp", "csgdw", "lamb", "lambc", "lambcd", "lambcw", "lambw",
    "laprop", "lapropc", "larc", "lars", "lion", "lionc", "madgrad", "madgradw", "mars", "momentum",
    "muon", "nadam", "nadamc", "nadamlegacy", "nadamuon", "nadamw", "nesterov", "nesterovw", "nlarc",
    "nlars", "nmuon", "novograd", "novogradc", "novogradw", "radabelief", "radam", "radamlegacy",
    "radamw", "rmsprop", "rmsproptf", "rmsproptfc", "rmsproptfw", "sgd", "sgdc", "sgdp", "sgdw",
)
"""Each takes steps and resumes exactly in a test; `lookahead_<name>` puts Lookahead around it."""

UNSUPPORTED_OPTIMIZERS: dict[str, str] = {
    "adahessian": "it needs second derivatives of the loss, which training does not compute",
    **dict.fromkeys(
        ("kron", "kronc", "kronw"),
        "timm compiles it anew for each shape of a parameter: its first step does not end for a KAN",
    ),
    **dict.fromkeys(
        (
            "bnbadam", "bnbadam8bit", "bnbadamw", "bnbadamw8bit", "bnbademamix", "bnbademamix8bit",
            "bnblion", "bnblion8bit", "bnbsgd", "bnbsgd8bit",
        ),
        "it needs a GPU and bitsandbytes, which are not part of the tested environment",
    ),
    **dict.fromkeys(
        ["fusedadam", "fusedadamw", "fusedlamb", "fusednovograd", "fusedsgd"],
        "it needs a GPU and NVIDIA's APEX, which are not part of the tested environment",
    ),
}
# fmt: on
"""Names in timm's registry that are refused, and why."""


def base_optimizer_name(name: str) -> str:
    """Return the name in lower case and without Lookahead, as it stands in the two tables."""
    return name.lower().removeprefix("lookahead_")
