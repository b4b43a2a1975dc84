"""A trainer leaves the signals of the process as they were, and nothing holds it when it is done."""

import gc
import signal
import weakref
from pathlib import Path

from kanvision.app.interrupt import disable_signal_handlers
from kanvision.callbacks import Preemption
from kanvision.signals import STOP_SIGNALS
from tests.tasks.tiny_problem import TinyData, tiny_task, tiny_trainer


def test_a_trainer_that_is_done_is_forgotten(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    for _ in range(2):
        trainer = disable_signal_handlers(tiny_trainer(tmp_path, callbacks=[Preemption()], max_epochs=1))
        trainer.fit(tiny_task(), datamodule=TinyData())
        assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
        gone = weakref.ref(trainer)
        del trainer
        gc.collect()
        assert gone() is None
