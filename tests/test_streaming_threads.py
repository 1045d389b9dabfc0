"""The thread that reads ahead: when it reads, when it ends, what it hands over."""

import _thread
import threading
import time

import numpy as np
import pytest

import jaxnet
from jaxnet import nn
from jaxnet.data import _blocks, sources
from tests.helpers import assert_same_bits, compilations
from tests.test_streaming import (
    FORMS,
    RUN,
    as_dataset,
    as_pair,
    each_form,
    list_readers,
    no_thread_stays,
    small_blocks,
)
from tests.tiny import NET, ROWS, X, Y

__all__ = ["no_thread_stays", "small_blocks"]  # fixtures


def test_programs_are_compiled_before_the_first_block_is_read():
    """Those of the blocks, of which there are three shapes."""
    net = nn.Sequential([nn.Linear(6, 3), nn.Linear(3, 1)])  # no other test's
    seen: list[int] = []
    with compilations() as compiled:

        def look(index):
            if index > 0:  # the first row's shape is asked for before all else
                seen.append(len(compiled))

        jaxnet.fit(net, as_dataset(before=look), epochs=2, **RUN)
    assert compiled.count("block") == 3
    assert seen[0] == len(compiled)


def test_an_error_of_the_source_comes_as_it_is():
    error = OSError("the disk is gone")

    def fail(index):
        if index == 30:
            raise error

    done: list[int] = []
    with pytest.raises(OSError) as caught:
        callbacks = [lambda chunk: done.append(chunk.epoch)]
        jaxnet.fit(NET, as_dataset(before=fail), epochs=2, callbacks=callbacks, **RUN)
    assert caught.value is error and not done


def test_control_c_ends_the_thread():
    """Pressed while a block is read; the next one is not begun."""
    read: list[int] = []

    def press(index):
        read.append(index)
        if index == 20:
            _thread.interrupt_main()
            time.sleep(0.2)

    with pytest.raises(KeyboardInterrupt):
        jaxnet.fit(NET, as_dataset(before=press), epochs=50, **RUN)
    assert len(read) < 2 * ROWS and not list_readers()


def test_an_early_end_ends_the_thread(tmp_path):
    def stop(chunk):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        jaxnet.fit(NET, as_pair(tmp_path), epochs=3, callbacks=[stop], **RUN)


def test_the_next_block_is_read_while_this_one_is_computed():
    """And no other: the one after it waits until this one is done."""
    begun = [threading.Event() for _ in range(4)]

    def make(item):
        begun[item].set()
        return item

    for item in _blocks.prefetch(make, range(4)):
        assert item == 3 or begun[item + 1].wait(5)
        time.sleep(0.05)
        assert item >= 2 or not begun[item + 2].is_set()


@each_form
def test_what_is_read_is_a_copy(form, tmp_path):
    """JAX may keep what it was given: nothing of it is the file's, or read into again."""
    data = FORMS[form](tmp_path)
    source, held = sources.as_source(data), data[0] if form == "memmap" else X
    order = np.arange(8)
    for indices in (order, order[::-1]):
        one, two = source.take(indices)[0], source.take(indices)[0]
        assert not np.shares_memory(one, two) and not np.shares_memory(one, held)
        assert_same_bits(one, X[indices])


def test_what_is_in_memory_is_not_streamed(tmp_path):
    mapped, _ = as_pair(tmp_path)
    cases = [(mapped, Y), (mapped[:4], Y[:4]), (mapped.astype(np.float64), Y), (mapped + 1, Y)]
    streamed = [sources.as_source(pair).streamed for pair in (*cases, (X, Y))]
    assert streamed == [True, True, False, False, False]
