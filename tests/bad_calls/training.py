"""`jaxnet.train`, `jaxnet.precision`, `jaxnet.lecture`."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import dataclasses

import grain
import jax.numpy as jnp
import numpy as np
import torch

import jaxnet
from jaxnet import callbacks, lecture, precision, train
from tests.bad_calls import Row
from tests.bad_calls.files import DIGITS, OPTIMIZER, X, Y, fit, generator, net, replaced, run, state

T, LE, P = "jaxnet.train.", "jaxnet.lecture.", "jaxnet.precision."
NAN = float("nan")
BCE = jaxnet.losses.binary_cross_entropy
RIGHT = jaxnet.metrics.probability_is_right
LOGITS = lecture.EXPERIMENTS["logits"]
ONE_STEP = train.History(np.zeros(1, np.float32), (), 0.0, 0.0, "parity")


def other_state():
    return train.start(jaxnet.optim.adam(), {"params": state().params}, generator())


def _made(changes):
    """A state that is made by a function, when it is needed."""
    made = {name: value() for name, value in changes.items() if name == "state" and callable(value)}
    return changes | made


def _fit(argument, says, kind=ValueError, **changes):
    return Row("jaxnet.fit", argument, lambda _: fit(**_made(changes)), says, kind)


def _step(argument, says, kind=ValueError, **changes):
    return Row(T + "run", argument, lambda _: run(**_made(changes)), says, kind)


def _evaluate(argument, says, kind=ValueError, **options):
    def call(_):
        train.evaluate(net(), state(), (X, Y), **options)

    return Row(T + "evaluate", argument, call, says, kind)


def _experiment(argument, says, kind=ValueError, data=(DIGITS, DIGITS), **changes):
    experiment = dataclasses.replace(LOGITS, **changes)
    return Row(LE + "run", argument, lambda _: lecture.run(experiment, data), says, kind)


_DATA = (
    ((X, Y[:3]), r"same number of rows.* x \(4, 2\) and y \(3, 1\)", ValueError),
    ((X[:0], Y[:0]), r"at least one; .* x \(0, 2\) and y \(0, 1\)", ValueError),
    ((np.float32(1), Y), r"shapes: x \(\) and y \(4, 1\)", ValueError),
    ((X, Y, X), r"must be \(x, y\).*two things, not 3", ValueError),
    (X, r"must be \(x, y\).*not .*ndarray", TypeError),
)
_VALUES = (
    ("x", (X.astype(str), Y), "must hold real numbers, not <U32", TypeError),
    ("x", ("abcd", Y), "must hold real numbers, not a str", TypeError),
    ("x", ([[1.0], [1.0, 2.0], [1.0], [1.0]], Y), "must hold real numbers, not a list of object",
     TypeError),
    ("y", (X, Y.astype(str)), "must hold real numbers, not <U32", TypeError),
    ("data", (X, {0: 1, 1: 1}), r"the same number of rows.* y\[0\]", ValueError),
    ("x", (X[:, :1], Y), r"must have shape \(..., 2\), not \(., 1\)", ValueError),
    ("x", (X.astype(np.uint8), Y), "must be floating-point, not uint8", TypeError),
)  # fmt: skip


def _stream(argument, says, *elements, kind=ValueError, **changes):
    data = grain.MapDataset.source(elements)
    return _fit(argument, says, kind, data=data, batch_size=1, **changes)


TENSORS = torch.utils.data.TensorDataset(torch.ones(4, 2), torch.ones(4, 1))
ROW = (X[0], Y[0])
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
    _stream("x", "must be finite.* row 1 holds nan", ROW, (replaced(X[0], 1, NAN), Y[0])),
    _stream("y", "must be finite.* row 1 holds inf", ROW, (X[0], replaced(Y[0], 0, np.inf))),
    _stream("shuffle", "shuffle=True needs a batch_size", ROW, shuffle=True)._replace(
        call=lambda _: fit(data=grain.MapDataset.source([ROW]), shuffle=True)),
    _fit("data", "a MapDataset that ends", data=grain.MapDataset.source([ROW]).repeat()),
    _fit("data", "or a grain.MapDataset, .* not a MapIterDataset|not a .*IterDataset", TypeError,
         data=grain.MapDataset.source([ROW]).to_iter_dataset()),
    *(
        _fit("data", f"a jaxnet.data.DataLoader of them .*not torch's {type(data).__name__}",
             TypeError, data=data)
        for data in (torch.utils.data.DataLoader(TENSORS, 2, num_workers=1,
                                                 persistent_workers=True), TENSORS, torch.ones(2))
    ),
    Row(T + "evaluate", "data",
        lambda _: train.evaluate(net(), state(), grain.MapDataset.source([ROW]).repeat()),
        "a MapDataset that ends"),
    Row("jaxnet.callbacks.Validation", "data",
        lambda _: callbacks.Validation(net(), grain.MapDataset.source([{}]), loss=BCE),
        "element 0 is a dict", TypeError),
    Row("jaxnet.run_sweep", "data",
        lambda _: jaxnet.run_sweep(net(), grain.MapDataset.source([ROW]).repeat(), loss=BCE,
                                   optimizer=OPTIMIZER, epochs=1, seeds=[0]),
        "a MapDataset that ends"),
]  # fmt: skip

ROWS = [
    *STREAMS,
    *(_fit("data", says, kind, data=data) for data, says, kind in _DATA),
    *(_fit(argument, says, kind, data=data) for argument, data, says, kind in _VALUES),
    _fit("x", "must be finite.* row 2 .*nan", data=(replaced(X, (2, 1), NAN), Y)),
    _fit("x", "must be finite.* row 3 .*-inf", data=(jnp.asarray(replaced(X, (3, 0), -np.inf)), Y)),
    _fit("x", "must be finite.* row 1 .*nan",
         data=jaxnet.data.DataLoader((replaced(X, 1, NAN), Y), 2)),
    _fit("y", "must be finite.* row 2 .*nan", data=(X, replaced(Y, 2, NAN))),
    _fit("y", "must be finite.* row 1 .*-inf", data=(X, jnp.asarray(replaced(Y, 1, -np.inf)))),
    _fit("target", r"has shape \(4,\), expected \(4, 1\) as in input", data=(X, Y[:, 0])),
    _fit("net", "must be a Flax module, not 'net'", TypeError, net="net"),
    _fit("net", "must be a Flax module, not <class .*Linear", TypeError, net=jaxnet.nn.Linear),
    _fit("loss", "must be a function .*not 'bce'", TypeError, loss="bce"),
    _fit("loss", r"must give a scalar, not shape \(4, 1\)", loss=lambda outputs, y: outputs - y),
    _fit("loss", "must give a scalar, not a NoneType", TypeError, loss=lambda outputs, y: None),
    _fit("optimizer", "must be an optax optimizer, .* not 'sgd'", TypeError, optimizer="sgd"),
    _fit("optimizer", "must be an optax optimizer, such as .* not <function", TypeError,
         optimizer=jaxnet.optim.sgd),
    *(
        _fit("epochs", f"integer of at least 1, not {v!r}", epochs=v)
        for v in (0, -1, 1.5, True, "1", None)
    ),
    _fit("epochs", "at most 2147483647 here, not 2147483648: a state counts", epochs=2**31),
    _fit("epochs", "at most 1073741823 here, not 2147483647", epochs=2**31 - 1, batch_size=2),
    _fit("epochs", "at most 9223372036854775807, not 1180591620717411303424", epochs=2**70,
         callbacks=[callbacks.Report()]),
    *(
        _fit("batch_size", f"integer of at least 1, not {v!r}", batch_size=v)
        for v in (0, -1, 2.0, True, "2")
    ),
    _fit("batch_size", "at most the number of rows, 4, not 5", batch_size=5),
    _fit("shuffle", "shuffle=True needs a batch_size", shuffle=True),
    *(
        _fit("seed", f"must be an integer, not {v!r}", TypeError, seed=v)
        for v in ("one", "7", b"7", 1.5, True, NAN)
    ),
    _fit("seed", r"must be an integer .*, not array\(\[1, 2\]\)", TypeError, seed=np.array([1, 2])),
    _fit("seed", r"between -2\*\*63 and 2\*\*64 - 1, not 18446744073709551616", seed=2**64),
    _fit("seed", "either seed .* or state", seed=None),
    _fit("state", "either seed .* or state", state=0),
    _fit("state", "must be a TrainState, not dict", TypeError, seed=None, state={}),
    _fit("state", "must come from this optimizer", seed=None, state=other_state),
    _fit("state", "is float64 but precision is 'parity'", seed=None,
         state=lambda: precision.cast(state(), "float64")),
    _fit("state", "is float32 but precision is 'float64'", seed=None, state=state,
         precision="float64"),
    _fit("state", r"a pair \(state, history\) .*not \(TrainState, int\)", TypeError, seed=None,
         state=lambda: (state(), 3)),
    _fit("state", "a history of 1 steps, which are no whole epochs: .* an epoch has 2", seed=None,
         batch_size=3, state=lambda: (state(), ONE_STEP)),
    _fit("epochs", "at least the 2 that the history in state has", seed=None,
         state=lambda: (state(), ONE_STEP._replace(losses=np.zeros(2, np.float32)))),
    _fit("callbacks", "must be a list, not function", TypeError, callbacks=lambda chunk: None),
    _fit("callbacks", "or functions of a Chunk, not 3", TypeError, callbacks=[3]),
    _fit("callbacks", "or functions of a Chunk, not <class .*NanGuard", TypeError,
         callbacks=[callbacks.NanGuard]),
    _fit("precision", "not 'flaot64'; did you mean 'float64'", precision="flaot64"),
    _fit("precision", r"one of parity, fast, float64, not \['parity'\]", precision=["parity"]),
    Row(T + "make_train_step", "net", lambda _: train.make_train_step("net", BCE, OPTIMIZER),
        "must be a Flax module, not 'net'", TypeError),
    Row(T + "make_train_step", "loss", lambda _: train.make_train_step(net(), 1, OPTIMIZER),
        "must be a function .*not 1", TypeError),
    Row(T + "make_train_step", "optimizer", lambda _: train.make_train_step(net(), BCE, "adam"),
        "must be an optax optimizer, .* not 'adam'", TypeError),
    Row(T + "make_draws", "net", lambda _: train.make_draws("net", X)(generator(), 1, 2),
        "must be a Flax module, not 'net'", TypeError),
    _step("step", "must be a function step.*, not 3", TypeError, step=3),
    _step("step", r"must give \(state, info\), not .*Tracer", TypeError,
          step=lambda w, batch, draws: w),
    _step("step", r"info\['loss'\], a scalar; not", TypeError,
          step=lambda w, batch, draws: (w, batch[0])),
    _step("draw", "must be a function draw.*, not 3", TypeError, draw=3),
    _step("seed", "run needs a seed where state is no TrainState", seed=None),
    _step("generator", "not NoneType", TypeError, seed=None,
          state=lambda: state()._replace(generator=None)),
    _step("data", "same number of rows", source=(X, Y[:3])),
    _step("epochs", "integer of at least 1, not 0", epochs=0),
    _step("batch_size", "at most the number of rows, 4, not 5", batch_size=5),
    _step("callbacks", "or functions of a Chunk, not 3", TypeError, callbacks=[3]),
    _step("precision", "one of parity, fast, float64, not 'double'", precision="double"),
    _step("about", "must be a dictionary that JSON can hold", TypeError, about={"rate": {1}}),
    _step("placement", "must be a jaxnet.train.OnMesh, not 8", TypeError, placement=8),
    Row(T + "start", "optimizer", lambda _: train.start(None, {"params": {}}, generator()),
        "must be an optax optimizer, .* not None", TypeError),
    Row(T + "start", "variables", lambda _: train.start(OPTIMIZER, [1], generator()),
        "must be a mapping .*, not list", TypeError),
    Row(T + "start", "generator", lambda _: train.start(OPTIMIZER, {"params": {}}, 0),
        "must be a jaxnet.random.Generator or a jax.random.key, not int", TypeError),
    *(
        row
        for name, call in (
            ("predict", train.predict),
            ("evaluate", lambda net, state, x: train.evaluate(net, state, (x, Y))),
        )
        for row in (
            Row(T + name, "net", lambda _, c=call: c("net", state(), X),
                "must be a Flax module, not 'net'", TypeError),
            Row(T + name, "state", lambda _, c=call: c(net(), None, X),
                "must be a TrainState, not NoneType", TypeError),
            *(
                Row(T + name, "x", lambda _, c=call, x=x: c(net(), state(), x), says, kind)
                for x, says, kind in (
                    (X[:, :1], r"must have shape \(..., 2\), not \(4, 1\)", ValueError),
                    (X.astype(np.uint8), "must be floating-point, not uint8", TypeError),
                    (X.astype(str), "must hold real numbers, not <U32", TypeError),
                    ("abcd", "must hold real numbers, not a str", TypeError),
                )
            ),
        )
    ),
    *(
        Row(T + "evaluate", "data", lambda _, d=data: train.evaluate(net(), state(), d), says, kind)
        for data, says, kind in _DATA
    ),
    *(
        Row(T + "evaluate", name, lambda _, d=data: train.evaluate(net(), state(), d),
            "must be finite.* row 3 holds nan")
        for name, data in (("x", (replaced(X, 3, NAN), Y)), ("y", (X, replaced(Y, 3, NAN))))
    ),
    _evaluate("loss", "must be a function .*not 'bce'", TypeError, loss="bce"),
    _evaluate("loss", r"must give a scalar, not shape \(4, 1\)", loss=lambda outputs, y: outputs),
    _evaluate("metrics", "must not be named 'loss'", loss=BCE, metrics={"loss": RIGHT}),
    _evaluate("metrics", r"must be \{name: metric\}, not list", TypeError, metrics=[RIGHT]),
    _evaluate("metric", "'one' must give one value for each of 4 rows, not shape",
              metrics={"one": lambda o, y: 1.0}),
    *(
        Row(P + name, argument, lambda _, c=call, v=v: c(v),
            f"one of parity, fast, float64, not {v!r}")
        for name, argument, call in (
            ("check_precision", "precision", precision.check_precision),
            ("use", "precision", lambda v: precision.use(v).__enter__()),
            ("cast", "precision", lambda v: precision.cast({}, v)),
            ("cast_array", "precision", lambda v: precision.cast_array(X, v)),
        )
        for v in ("double", None)
    ),
    Row(P + "cast", "tree", lambda _: precision.cast({"weight": "abc"}, "parity"),
        "must hold arrays or numbers, not 'abc'", TypeError),
    Row(P + "cast_array", "tree", lambda _: precision.cast_array(np.array(["a"]), "parity"),
        "must hold arrays or numbers, not array", TypeError),
    Row(LE + "run", "experiment", lambda _: lecture.run("logits"),
        "must be an Experiment, .* not 'logits'", TypeError),
    Row(LE + "run", "device", lambda _: lecture.run(LOGITS, (DIGITS, DIGITS), device="gpu"),
        "must be one of jax.devices\\(\\).*, not 'gpu'", TypeError),
    Row(LE + "run", "data", lambda _: lecture.run(LOGITS, (DIGITS,)),
        r"must be \(train, test\).*two things, not 1"),
    Row(LE + "run", "data", lambda _: lecture.run(LOGITS, (X, Y)),
        r"must be \(train, test\).* Dataset.*not .*ndarray", TypeError),
    _experiment("epochs", "integer of at least 1, not 0", epochs=0),
    _experiment("seed", "must be an integer, not 'x'", TypeError, seed="x"),
    _experiment("classes", r"is \(\); expected distinct digits", classes=(), data=None),
    _experiment("batch_size", "at most the number of rows, 2, not 16", batch_size=16),
    Row(LE + "Experiment", "labels",
        lambda _: lecture.EXPERIMENTS["three_class"].targets(DIGITS._replace(labels=np.array([3]))),
        "holds 3; expected integers from 0 to 2"),
    Row(LE + "manual_sigmoid_loss", "target",
        lambda _: lecture.manual_sigmoid_loss(jnp.ones((2, 1)), jnp.ones(2)),
        r"has shape \(2,\), expected \(2, 1\)"),
    Row(LE + "find", "name", lambda _: lecture.find("logit"), "one of .*ten_class, not 'logit'"),
]  # fmt: skip
