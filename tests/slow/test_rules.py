"""Every call of every rule against torch's operator, in both precisions."""

import numpy as np
import pytest

from jaxnet import precision
from jaxnet.program.registry import RULES
from tests.rules import compare
from tests.test_rules import CASES, ROOMS


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.rpartition(".")[2])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rules(room: str, dtype):
    wide = dtype == np.float64
    calls = [
        (name, call)
        for name, calls in CASES.items()
        for call in calls
        if RULES[name].source == room and (call.double or not wide)
    ]
    with precision.use("float64" if wide else "parity"):
        faults = list(compare(calls, dtype))
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])
