"""What a person sees of a run, on a terminal and elsewhere."""

import io

from rich.console import Console

import jaxnet
from jaxnet import losses, nn, optim
from jaxnet.progress import bar
from tests.test_train import X, Y


def watch(terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with bar("small", 4, console) as hook:
        jaxnet.fit(
            nn.Sequential([nn.Linear(6, 1)]),
            (X, Y),
            loss=losses.binary_cross_entropy_with_logits,
            optimizer=optim.sgd(),
            epochs=4,
            seed=1,
            report_every=2,
            metrics={"accuracy": jaxnet.metrics.logit_is_right},
            hooks=[hook],
        )
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_sees_a_bar_that_begins_with_compiling():
    shown = watch(terminal=True)
    assert "compiling" in shown and "epoch 4, loss " in shown and ", accuracy " in shown


def test_elsewhere_there_is_one_line():
    (line,) = watch(terminal=False).splitlines()
    assert line.startswith("small: epoch 4, loss 0.") and ", accuracy 0." in line
