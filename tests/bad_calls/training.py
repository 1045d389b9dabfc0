"""`jaxnet.train`, `jaxnet.precision`, `jaxnet.lecture`."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import dataclasses
from functools import partial

import grain
import jax.numpy as jnp
import numpy as np
import torch

import jaxnet
from jaxnet import callbacks, lecture, precision, train
from tests.bad_calls import Row, of, of_values
from tests.bad_calls import kinds as k
from tests.bad_calls.files import DIGITS, OPTIMIZER, X, Y, fit, generator, net, replaced, run, state

T, LE, P = "jaxnet.train.", "jaxnet.lecture.", "jaxnet.precision."
BCE = jaxnet.losses.binary_cross_entropy
RIGHT = jaxnet.metrics.probability_is_right
LOGITS = lecture.EXPERIMENTS["logits"]
ONE_STEP = train.History(np.zeros(1, np.float32), (), 0.0, 0.0, "parity")


def other_state():
    return train.start(jaxnet.optim.adam(), {"params": state().params}, generator())


def _fit(argument, says, kind=ValueError, **changes):
    return Row("jaxnet.fit", argument, lambda _: fit(**changes), says, kind)


def _from(argument, says, make, kind=ValueError, **changes):
    """A run from a state that is made when it is needed."""
    return Row(
        "jaxnet.fit", argument, lambda _: fit(seed=None, state=make(), **changes), says, kind
    )


step_with = partial(train.make_train_step, net=net(), loss=BCE, optimizer=OPTIMIZER)
predict = partial(train.predict, net=net(), state=state(), x=X)
evaluate = partial(train.evaluate, net=net(), state=state(), data=(X, Y))


def run_experiment(data=(DIGITS, DIGITS), device=None, **changes):
    return lecture.run(dataclasses.replace(LOGITS, **changes), data, device=device)


TENSORS = torch.utils.data.TensorDataset(torch.ones(4, 2), torch.ones(4, 1))
WORKERS = {"num_workers": 1, "persistent_workers": True}
ROW = (X[0], Y[0])
ENDLESS = grain.MapDataset.source([ROW]).repeat()


def _stream(argument, says, *elements, kind=ValueError, **changes):
    data = grain.MapDataset.source(elements)
    return _fit(argument, says, kind, data=data, batch_size=1, **changes)


STREAMS = [
    _stream("data", "at least one row; the MapDataset is empty"),
    _stream("data", "pairs .*element 0 is a dict: data.map", {"x": X[0]}, kind=TypeError),
    _stream("data", "pairs .*element 1 is missing: filter", ROW, None, kind=TypeError),
    _stream("data", r"one shape and type, but x of element 1 is float32 \(1,\), not float32 \(2,\)",
            ROW, (X[0, :1], Y[0])),
    _stream("data", r"one shape and type, but y of element 1 is int64 \(1,\), not float32 \(1,\)",
            ROW, (X[0], Y[0].astype(int))),
    _stream("x", "must hold real numbers, not <U32", (X[0].astype(str), Y[0]), kind=TypeError),
    _stream("y", "must hold real numbers, not <U3", (X[0], "one"), kind=TypeError),
    _stream("data", "must hold real numbers; element 0", ([[1.0], [1.0, 2.0]], Y[0]),
            kind=TypeError),
    _stream("x", "must be finite.* row 1 holds nan", ROW, (replaced(X[0], 1, k.NAN), Y[0])),
    _stream("y", "must be finite.* row 1 holds inf", ROW, (X[0], replaced(Y[0], 0, np.inf))),
    _fit("shuffle", "shuffle=True needs a batch_size", data=grain.MapDataset.source([ROW]),
         shuffle=True),
    _fit("data", "or a grain.MapDataset, .* not a MapIterDataset|not a .*IterDataset", TypeError,
         data=grain.MapDataset.source([ROW]).to_iter_dataset()),
    *(
        _fit("data", f"a jaxnet.data.DataLoader of them .*not torch's {type(data).__name__}",
             TypeError, data=data)
        for data in (torch.utils.data.DataLoader(TENSORS, 2, **WORKERS), TENSORS, torch.ones(2))
    ),
    *(
        Row(name, "data", lambda _, c=call: c(data=ENDLESS), "a MapDataset that ends")
        for name, call in (("jaxnet.fit", fit), (T + "evaluate", evaluate))
    ),
]  # fmt: skip

ROWS = [
    *STREAMS,
    *of(
        "jaxnet.fit", fit, net=k.MODULE, optimizer=k.OPTIMIZER, precision=k.PRECISION, data=k.DATA,
        callbacks=[*k.CALLBACKS, ([callbacks.NanGuard], "not <class .*NanGuard", TypeError)],
        loss=[
            *k.FUNCTION,
            (lambda outputs, y: outputs - y, r"must give a scalar, not shape \(4, 1\)"),
            (lambda outputs, y: None, "must give a scalar, not a NoneType", TypeError),
        ],
        epochs=[*k.COUNT, (2**31, "at most 2147483647 here, not 2147483648: a state counts")],
        batch_size=k.BATCH, shuffle=[(True, "shuffle=True needs a batch_size")],
        seed=[*k.SEED, (None, "either seed .* or state")], placement=k.PLACEMENT,
        state=[(0, "either seed .* or state")],
    ),
    *of("jaxnet.fit", lambda y: fit(data=(X, y)), y=k.TARGETS),
    *of(
        "jaxnet.fit", lambda x: fit(data=(x, Y)),
        x=[
            *k.ROWS_OF_X,
            ([[1.0], [1.0, 2.0]] * 2, "must hold real numbers, not a list of object", TypeError),
            (replaced(X, (2, 1), k.NAN), "must be finite.* row 2 .*nan"),
            (jnp.asarray(replaced(X, (3, 0), -np.inf)), "must be finite.* row 3 .*-inf"),
        ],
    ),
    _fit("x", "must be finite.* row 1 .*nan",
         data=jaxnet.data.DataLoader((replaced(X, 1, k.NAN), Y), 2)),
    _fit("data", r"the same number of rows.* y\[0\]", data=(X, {0: 1, 1: 1})),
    _fit("target", r"has shape \(4,\), expected \(4, 1\) as in input", data=(X, Y[:, 0])),
    _fit("epochs", "at most 1073741823 here, not 2147483647", epochs=2**31 - 1, batch_size=2),
    _fit("epochs", "at most 9223372036854775807, not 1180591620717411303424", epochs=2**70,
         callbacks=[callbacks.Report()]),
    _from("state", "must be a TrainState, not dict", dict, TypeError),
    _from("state", "must come from this optimizer", other_state),
    _from("state", "is float64 but precision is 'parity'",
          lambda: precision.cast(state(), "float64")),
    _from("state", "is float32 but precision is 'float64'", state, precision="float64"),
    _from("state", r"a pair \(state, history\) .*not \(TrainState, int\)", lambda: (state(), 3),
          TypeError),
    _from("state", "a history of 1 steps, which are no whole epochs: .* an epoch has 2",
          lambda: (state(), ONE_STEP), batch_size=3),
    _from("epochs", "at least the 2 that the history in state has",
          lambda: (state(), ONE_STEP._replace(losses=np.zeros(2, np.float32)))),
    *of(T + "make_train_step", step_with, net=k.MODULE[:1], loss=k.FUNCTION, optimizer=k.OPTIMIZER),
    *of(T + "make_draws", lambda net: train.make_draws(net, X)(generator(), 1, 2),
        net=k.MODULE[:1]),
    *of(
        T + "run", run, draw=k.FUNCTION, epochs=k.COUNT[:1], batch_size=k.BATCH[-1:],
        callbacks=k.CALLBACKS[1:], precision=k.PRECISION[:1], placement=k.PLACEMENT,
        step=[
            *k.FUNCTION,
            (lambda w, batch, draws: w, r"must give \(state, info\), not .*Tracer", TypeError),
            (lambda w, batch, draws: (w, batch[0]), r"info\['loss'\], a scalar; not", TypeError),
        ],
        seed=[(None, "run needs a seed where state is no TrainState")],
        about=[({"rate": {1}}, "must be a dictionary that JSON can hold", TypeError)],
    ),
    *of(T + "run", lambda data: run(source=data), data=k.DATA[:1]),
    Row(T + "run", "generator", lambda _: run(seed=None, state=state()._replace(generator=None)),
        "not NoneType", TypeError),
    *of(
        T + "start", partial(train.start, optimizer=OPTIMIZER, variables={"params": {}},
                             generator=generator()),
        optimizer=k.OPTIMIZER, generator=k.EITHER_GENERATOR,
        variables=[([1], "must be a mapping .*, not list", TypeError)],
    ),
    *of(T + "predict", predict, net=k.MODULE[:1], state=k.STATE, x=k.ROWS_OF_X),
    *of(
        T + "evaluate", evaluate, net=k.MODULE[:1], state=k.STATE, data=k.DATA,
        loss=[*k.FUNCTION, (lambda outputs, y: outputs, r"must give a scalar, not shape \(4, 1\)")],
        metrics=k.METRICS,
    ),
    *of(T + "evaluate", lambda y: evaluate(data=(X, y)), y=k.TARGETS[:1]),
    *of(T + "evaluate", lambda x: evaluate(data=(x, Y)), x=[
        *k.ROWS_OF_X, (replaced(X, 3, k.NAN), "must be finite.* row 3 holds nan")]),
    Row(T + "evaluate", "metrics", lambda _: evaluate(loss=BCE, metrics={"loss": RIGHT}),
        "must not be named 'loss'"),
    Row(T + "evaluate", "metric", lambda _: evaluate(metrics={"one": lambda o, y: 1.0}),
        "'one' must give one value for each of 4 rows, not shape"),
    *(
        row
        for name, call in (
            ("check_precision", precision.check_precision),
            ("use", lambda precision: jaxnet.precision.use(precision).__enter__()),
            ("cast", lambda precision: jaxnet.precision.cast({}, precision)),
            ("cast_array", lambda precision: jaxnet.precision.cast_array(X, precision)),
        )
        for row in of_values(P + name, "precision", call, *k.PRECISION)
    ),
    Row(P + "cast", "tree", lambda _: precision.cast({"weight": "abc"}, "parity"),
        "must hold arrays or numbers, not 'abc'", TypeError),
    Row(P + "cast_array", "tree", lambda _: precision.cast_array(np.array(["a"]), "parity"),
        "must hold arrays or numbers, not array", TypeError),
    Row(LE + "run", "experiment", lambda _: lecture.run("logits"),
        "must be an Experiment, .* not 'logits'", TypeError),
    *of(
        LE + "run", run_experiment, epochs=k.COUNT[:1],
        device=[("gpu", r"must be one of jax.devices\(\).*, not 'gpu'", TypeError)],
        data=[
            ((DIGITS,), r"must be \(train, test\).*two things, not 1"),
            ((X, Y), r"must be \(train, test\).* Dataset.*not .*ndarray", TypeError),
        ],
        seed=k.SEED[:1], batch_size=[(16, "at most the number of rows, 2, not 16")],
    ),
    Row(LE + "run", "classes", lambda _: run_experiment(None, classes=()),
        r"is \(\); expected distinct digits"),
    Row(LE + "Experiment", "labels",
        lambda _: lecture.EXPERIMENTS["three_class"].targets(DIGITS._replace(labels=np.array([3]))),
        "holds 3; expected integers from 0 to 2"),
    Row(LE + "manual_sigmoid_loss", "target",
        lambda _: lecture.manual_sigmoid_loss(jnp.ones((2, 1)), jnp.ones(2)),
        r"has shape \(2,\), expected \(2, 1\)"),
    Row(LE + "find", "name", lambda _: lecture.find("logit"), "one of .*ten_class, not 'logit'"),
]  # fmt: skip
