"""torch's side of the lecture for `jaxnet report`: records, every loss, certificates, as JSON."""

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from jaxnet.certificate import bounds
from jaxnet.certificate.report import headline, write_text
from jaxnet.data import Dataset, load_mnist
from jaxnet.data.loader import make_batching
from jaxnet.lecture._machine import describe
from jaxnet.lecture.experiments import EXPERIMENTS, find
from jaxnet.lecture.experiments import manual_sigmoid_loss as jax_manual_sigmoid_loss
from jaxnet.lecture.torch_results import digest_rows
from torchref.certification import Certificate, certify_script
from torchref.lecture import SECTIONS, run

Tell = Callable[[int, int, str], Any]
"""`tell(done, total, what)`: steps of torch's run with its loss, then steps certified."""


def manual_sigmoid_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Section 2A's loss, written out."""
    probs = torch.exp(logits) / (1 + torch.exp(logits))
    return torch.nn.functional.binary_cross_entropy(probs, targets)


def certify_experiment(
    name: str,
    data: Dataset | None = None,
    *,
    epochs: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> Certificate:
    """The certificate of an experiment's first epochs, from its construction on.

    Args:
      name: of the experiment.
      data: the training rows, `load_mnist` of the experiment's classes if None.
      epochs: so many of them, all if None.
      progress: as for `certify_script`.
    """
    experiment = find(name)
    train = load_mnist(experiment.classes)[0] if data is None else data

    def build():
        net, loss, optimizer = SECTIONS[name].build()
        if name == "manual_sigmoid":
            loss = (manual_sigmoid_loss, jax_manual_sigmoid_loss)
        return net, loss, optimizer, (train.images, experiment.targets(train))

    return certify_script(
        build,
        epochs=min(epochs or experiment.epochs, experiment.epochs),
        batch_size=experiment.batch_size,
        shuffle=experiment.shuffle,
        seed=int(experiment.seed),
        progress=progress,
    )


def measure(
    name: str,
    data: tuple[Dataset, Dataset] | None = None,
    *,
    epochs: int = 10,
    tell: Tell = lambda done, total, what: None,
) -> dict[str, Any]:
    """One experiment in torch, every loss and a certificate, as `torch_results` reads it.

    Args:
      name: of the experiment.
      data: training and test rows, `load_mnist` of the experiment's classes if None.
      epochs: how many are certified, at most the experiment's; 0 for no certificate.
      tell: what is told of each step.
    """
    experiment = find(name)
    data = load_mnist(experiment.classes) if data is None else data
    steps = make_batching(len(data[0].labels), experiment.batch_size, experiment.shuffle).steps
    losses: list[float] = []

    def watch(net: Any, output: Any, loss: torch.Tensor) -> None:
        losses.append(loss.item())
        tell(len(losses), experiment.epochs * steps, f"torch, loss {losses[-1]:.4f}")

    record = run(name, data, watch=watch).record
    certificate = None
    if epochs:
        certificate = certify_experiment(
            name, data[0], epochs=epochs, progress=lambda step, of: tell(step, of, "certified")
        )
    return {
        **record,
        "losses": losses,
        "rows": digest_rows(data),
        "loss_bound": _find_bound(name, data),
        "machine": describe()
        | {"device": f"cpu, {torch.get_num_threads()} threads", "torch": torch.__version__},
        "certificate": certificate
        and {
            "agrees": certificate.agrees,
            "headline": headline(certificate),
            "epochs": certificate.settings["epochs"],
            "text": write_text(certificate),
        },
    }


def _find_bound(name: str, data: tuple[Dataset, Dataset]) -> float | None:
    """What is claimed of the losses: of the lecture's runs on the lecture's rows alone."""
    if name not in EXPERIMENTS or digest_rows(data) != digest_rows(load_mnist(find(name).classes)):
        return None
    return bounds.TRAJECTORY.rtol


def _plain(value: Any) -> Any:
    """Only what JSON knows: a number that is none is null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(measured: Iterable[dict[str, Any]]) -> str:
    """The runs as `jaxnet report --torch` reads them; a number that is not finite is null."""
    return json.dumps(_plain(list(measured)), allow_nan=False) + "\n"
