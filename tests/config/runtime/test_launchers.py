"""torchrun and Slurm say how many processes there are; a global batch is shared out to them."""

import pytest

from kanvision.config.runtime.launchers import is_distributed_worker, is_local_rank_zero, started

TORCHRUN = {"TORCHELASTIC_RUN_ID": "night", "WORLD_SIZE": "6", "GROUP_WORLD_SIZE": "2"}
SLURM = {"SLURM_PROCID": "5", "SLURM_NTASKS": "6", "SLURM_NNODES": "3", "SLURM_LOCALID": "1"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*TORCHRUN, *SLURM]:
        monkeypatch.delenv(name, raising=False)


def be(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("launcher", "environment", "shape"), [("torchrun", TORCHRUN, (3, 2)), ("slurm", SLURM, (2, 3))]
)
def test_the_job_says_its_shape(monkeypatch, launcher, environment, shape) -> None:
    with pytest.raises(ValueError, match=f"trainer={launcher} is for .*train.py trainer={launcher}"):
        started(launcher, "devices")
    be(monkeypatch, **environment)
    assert (started(launcher, "devices"), started(launcher, "num_nodes")) == shape
    be(monkeypatch, WORLD_SIZE="5", SLURM_NTASKS="5")
    with pytest.raises(ValueError, match=r"5 processes on \d machines"):
        started(launcher, "devices")


def test_who_prepares_data_and_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_local_rank_zero()
    assert not is_distributed_worker()
    be(monkeypatch, **SLURM)
    assert not is_local_rank_zero()
    assert is_distributed_worker()
    be(monkeypatch, SLURM_NTASKS="1", SLURM_LOCALID="0")
    assert is_local_rank_zero()
    assert not is_distributed_worker()
    be(monkeypatch, LOCAL_RANK="1")
    assert not is_local_rank_zero()
    assert is_distributed_worker()


def test_a_global_batch_that_cannot_be_shared_out_is_refused(judge) -> None:
    words = (
        "trainer=ddp_sim",
        "trainer.devices=3",
        "trainer.num_nodes=2",
        "trainer.accumulate_grad_batches=2",
    )
    assert judge(*words, "trainer.global_batch_size=48") == []
    (problem,) = judge(*words, "trainer.global_batch_size=64")
    assert problem.why == "64 images cannot be divided equally: 6 processes with 2 batches each"
    assert problem.fix == "take 60 or 72, or another number of processes"
    (problem,) = judge(*words, "trainer.global_batch_size=5")
    assert problem.fix == "take 12, or another number of processes"
    (problem,) = judge("trainer=ddp_sim", "trainer.global_batch_size=6", "mixup.mixup_alpha=0.2")
    assert problem.why.endswith("2 processes with 1 batch each, in pairs that are mixed")
    assert problem.fix == "take 4 or 8, or another number of processes"
    (problem,) = judge("data.batch_size=null", "~recipe")
    assert problem.keys == ("data.batch_size", "recipe.batch_size")
    assert judge("trainer=ddp", "trainer.global_batch_size=63") == []  # what the machine has is not known yet


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        ("trainer=ddp_sim trainer.sync_batchnorm=true", "trainer.sync_batchnorm"),
        ("trainer=fsdp ema={decay:0.9}", "ema"),
        ("trainer=fsdp penalty.weight_l1=0.1", "penalty.weight_l1"),
        ("trainer=fsdp callbacks=grid basis=bspline", "callbacks.grid"),
        ("trainer=fsdp trainer.precision=16-mixed", "trainer.precision"),
        ("trainer=fsdp trainer.sync_batchnorm=true", "trainer.sync_batchnorm"),
        ("trainer=fsdp penalty.activation_l1=0.1", None),
    ],
)
def test_what_shards_and_cpus_cannot_do(judge, words: str, culprit: str | None) -> None:
    problems = judge(*words.split())
    assert [culprit in problem.keys for problem in problems] == ([True] if culprit else [])
