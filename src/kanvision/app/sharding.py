"""Networks whose weights are spread over processes (FSDP)."""

from __future__ import annotations

from pytorch_lightning.strategies import ModelParallelStrategy

__all__ = ["Sharded"]


class Sharded(ModelParallelStrategy):
    """Lightning's strategy for torch's `fully_shard`, over all processes, with checkpoints of whole tensors.

    What is sharded together says `Task.configure_model`. A checkpoint is one file, the same as that of a run
    on one device, and each may go on from the other's. It works on GPUs (NCCL) and on CPUs (gloo).
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Connect the processes; the first time there may be no network yet."""
        if self.lightning_module is None:
            self._setup_distributed()
            return
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
