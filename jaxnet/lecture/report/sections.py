"""The lecture's sections as the report tells them: what each asks, why, and its code."""

from dataclasses import dataclass
from importlib import resources

from jaxnet._utils.validation import nearest


@dataclass(frozen=True)
class Section:
    """A section of the lecture."""

    id: str
    number: str
    title: str
    asks: str
    why: tuple[str, ...]
    experiments: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    """Names of programs in `code/`, an experiment's its own."""
    pictures: tuple[str, ...] = ()


SECTIONS = (
    Section(
        "full-batch",
        "1A",
        "Zero or one",
        "Can a small net tell a 0 from a 1?",
        (
            "784 pixels go through 32 hidden units to one probability. Every step sees all 12,665 "
            "training rows, so that its loss is exact and falls smoothly; SGD at a rate of "
            "0.001 takes 500 such steps.",
            "Everything that a seed decides here is the initial weights. They are torch's, bit for "
            "bit, and so only rounding can make the two runs differ.",
        ),
        ("full_batch",),
        ("full_batch",),
        ("digits", "weights"),
    ),
    Section(
        "dropout",
        "1B",
        "Dropout",
        "What if a net learns its training rows by heart?",
        (
            "A net that fits its training rows better and better may do worse on others. Dropout "
            "sets units to zero at random in each step, here nine in ten, so that none can rely on "
            "another; in evaluation mode all are there.",
            "The mask of each step comes from torch's stream and is drawn inside the compiled run. "
            "On the lecture's 12,665 rows nothing overfits: test rows do better. The picture takes "
            "200 rows with some labels wrong, which only a net that knows its rows by heart gets "
            "right.",
        ),
        ("dropout",),
        ("dropout",),
        ("overfitting",),
    ),
    Section(
        "device",
        "1C",
        "On the GPU",
        "What changes when the net goes to a GPU?",
        (
            "In torch the net and the arrays are moved, and the masks change: a GPU has its own "
            "stream. In JAX a program is compiled for where its arrays are: the training rows are "
            "moved, and the weights are made beside them. "
            "jaxnet draws the CPU's masks wherever it runs, so that the device changes no integer.",
        ),
        (),
        ("device",),
    ),
    Section(
        "minibatch",
        "1D",
        "Minibatches",
        "Why look at 16 rows where all could be had?",
        (
            "A step on 16 rows costs a fraction of one on all of them, and two passes make 1,584 "
            "steps. Each step's loss is noisier: the noise falls with the square root of the "
            "batch's size. The loader does not shuffle, and the rows are sorted by digit, which is "
            "why the loss leaps where the zeros end.",
        ),
        ("minibatch",),
        ("minibatch",),
        ("batch_sizes",),
    ),
    Section(
        "logits",
        "2A",
        "A naive loss, and one of logits",
        "Where should the sigmoid be?",
        (
            "The net may end in numbers of any size, logits, and the loss take their sigmoid. "
            "Naively that is exp(z) / (1 + exp(z)), which is 1 in float32 from z = 16.6 on and nan "
            "from 88.7 on; a loss of logits is the same number without either. A logit above 0 is "
            "a probability above 1/2, so that the decision needs no sigmoid at all.",
        ),
        ("manual_sigmoid", "logits"),
        ("manual_sigmoid", "logits"),
        ("sigmoid",),
    ),
    Section(
        "one-hot",
        "2B",
        "One-hot encoding",
        "How does one write down which of three digits it is?",
        (
            "As 0, 1, 2 a one is between a zero and a two, and a net in doubt between 0 and 2 "
            "says 1. A one-hot vector says which, and nothing else. The lecture calls it the most "
            "exact: a draw from a multinomial distribution with n = 1 is a one-hot vector.",
        ),
        (),
        ("one_hot",),
        ("multinomial", "codes"),
    ),
    Section(
        "three-class",
        "2C",
        "Three digits",
        "And with three classes?",
        (
            "Three outputs, one-hot targets, cross entropy of the logits, Adam for 100 full-batch "
            "epochs: the same loop again, with other parts. The lecture remarks that the loop gets "
            "dirtier with each section, which is how trainers come about; here the loop is "
            "jaxnet.fit, and what is added is a callback, an optax part or an argument.",
        ),
        ("three_class",),
        ("three_class",),
        ("confusion", "predictions"),
    ),
)

PICTURES = {
    "digits": "Sample digits, as the lecture shows them.",
    "weights": "The 32 hidden units' weights as images, and what training has added to them: rings "
    "and strokes.",
    "overfitting": "Train against test on few rows, some of them labeled wrong, without dropout "
    "and with it.",
    "batch_sizes": "The loss over a shuffled epoch at three batch sizes; the size against its "
    "noise.",
    "sigmoid": "Where the naive loss jumps and overflows; why the sign of a logit decides.",
    "multinomial": "Draws of a multinomial with n = 1 are one-hot vectors.",
    "codes": "Codes 0, 1, 2 against one-hot: the net of one output takes many a 2 for a 1.",
    "confusion": "Which digit is taken for which.",
    "predictions": "What the net says of test digits, and its surest mistakes.",
}
"""What each picture shows, in the report and for who cannot see it."""


def read_code(name: str) -> tuple[str, str]:
    """A section's code in torch and in jaxnet: programs, kept as text, which the tests run.

    >>> theirs, ours = read_code("one_hot")
    >>> "torch.nn.functional.one_hot" in theirs, "jaxnet.data.one_hot" in ours
    (True, True)
    """
    folder = resources.files("jaxnet.lecture.report") / "code"
    names = sorted({path.name.partition(".")[0] for path in folder.iterdir()})
    if name not in names:
        meant = nearest(name, names)
        raise ValueError(f"name must be one of {', '.join(names)}, not {name!r}{meant}")
    theirs, ours = (
        (folder / f"{name}.{side}.txt").read_text(encoding="utf-8") for side in ("torch", "jaxnet")
    )
    return theirs, ours
