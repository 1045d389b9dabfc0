"""The first epoch of ten digits, certified: `JAXNET_MNIST` names a folder of MNIST's four files."""

import pytest

from jaxnet import data
from tests.integration.test_ten_class import ROOT, TEN, certify_rows


@pytest.mark.skipif(ROOT is None, reason="JAXNET_MNIST names no folder of MNIST's four IDX files")
def test_real_mnist_for_the_first_epoch(record_property):
    found = certify_rows(data.load_mnist(TEN.classes, ROOT)[0])
    assert found.agrees and found.steps == 938, str(found)
    worst = {stage: round(figures.share, 2) for stage, figures in found.stages.items()}
    record_property("largest error as a share of its bound", {k: v for k, v in worst.items() if v})
