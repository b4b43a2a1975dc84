"""Whose exceptions become one block of text, and which block."""

import pytest

from kanvision.config.errors import exit_with_message


class DataError(ValueError):
    pass


def stopped_by(error: Exception, module: str, *kinds: type[Exception]) -> None:
    """Raise an error in a module of this name, inside `exit_with_message`."""
    with exit_with_message(*kinds):
        exec("raise error", {"__name__": module, "error": error})


@pytest.mark.parametrize(
    ("error", "module", "kinds"),
    [
        (ValueError("optimizer.name=x is unknown"), "kanvision.optim", ()),
        (DataError("optimizer.name=x is unknown"), "torch._utils", (DataError,)),
        # what torch makes of an error in a loader process
        (
            DataError(
                "Caught DataError in DataLoader worker process 1.\nOriginal Traceback (most recent ...):\n"
                "  File ...\nkanvision.data.errors.DataError: optimizer.name=x is unknown\n"
            ),
            "torch._utils",
            (DataError,),
        ),
    ],
)
def test_mistakes_of_the_user_are_shown_alone(error, module, kinds, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        stopped_by(error, module, *kinds)
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "\noptimizer.name=x is unknown\n"


@pytest.mark.parametrize(
    ("error", "module"),
    [
        (ValueError("from a library"), "torch.nn.modules"),
        (ValueError("from a namesake"), "kanvisions.other"),
        (TypeError("a fault of ours"), "kanvision.optim"),
    ],
)
def test_faults_of_programs_keep_their_traceback(error: Exception, module: str) -> None:
    with pytest.raises(type(error), match=str(error)):
        stopped_by(error, module, DataError)
