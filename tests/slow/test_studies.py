"""What the lecture's studies show: each trains nets of its own, some for an epoch of all rows."""

from jaxnet.data import load_mnist
from jaxnet.lecture.figures.studies import overfit, predict_codes, vary_batches


def test_a_net_without_dropout_memorizes_wrong_labels():
    right, found = overfit(load_mnist((0, 1)))
    train, test = found[0.0][200]
    assert train > 0.95 > right and test < 0.85


def test_the_noise_of_a_batch_falls_with_its_size():
    """4 rows against 1,024: 16 times in theory."""
    _, noise = vary_batches(load_mnist((0, 1)))
    assert noise[0] > 5 * noise[-1]


def test_codes_of_classes_mislead():
    train, test = load_mnist((0, 1, 2))
    assert (predict_codes((train, test)).round() == test.labels).mean() < 0.9
