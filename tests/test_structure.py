"""The rooms of the package and the arrows between them, read from the imports.

`find_faults` takes a tree as `{path: source}`, so that a violation can be planted in a copy of it.
"""

import ast
import functools
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.helpers import each_row
from tests.integration import ROOT, run_python

Tree = dict[str, str]

LEVELS = (
    ("_utils", "precision", "cache"),
    ("random", "losses", "optim"),
    ("nn",),
    ("data", "program"),
    ("train",),
    ("checkpoint",),
    ("callbacks", "convert", "certificate"),
    ("sweep",),
    ("lecture",),
    ("__init__", "__main__"),
)
"""The entries of `jaxnet/`: each imports from those above it alone, the first three also from each
other."""

LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
HEAVY = ("click", "matplotlib", "plotly", "jinja2", "pygments", "torch", "orbax")
"""What `import jaxnet` does not load."""

APPLICATION = {*HEAVY[:-2], "rich", "markupsafe"}
PICKLE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}

UNLISTED = {
    "jaxnet.lecture.cli": "a command line: a file a command, run and not imported",
    "jaxnet.lecture.figures": "loads matplotlib: whoever draws imports it by itself",
    "jaxnet.program.rules": "importing it fills the registry, in which rules are looked up by name",
    "jaxnet.lecture.report": "loads the application's packages: whoever writes a page imports it",
}
"""Packages and modules that their package's `__all__` takes nothing from, each with the reason."""


class Import(NamedTuple):
    target: str
    """`package.module.name`, where `from package.module import name` stands in the source."""
    line: int
    where: str
    """"module", "function", or "typing" for what only a type checker runs."""


@functools.cache
def list_imports(path: str, source: str) -> tuple[Import, ...]:
    return tuple(_walk(ast.parse(source), _name(path), path.endswith("__init__.py"), "module"))


def _walk(node: ast.AST, module: str, package: bool, where: str) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno, where) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = module.split(".")[: len(module.split(".")) + package - node.level]
        base = ".".join([*(above if node.level else ()), *filter(None, [node.module])])
        yield from (Import(f"{base}.{alias.name}", node.lineno, where) for alias in node.names)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        named = [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
        yield from (Import(str(name), node.lineno, "function") for name in named)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        where = "function" if where == "module" else where
    elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        where = "typing"
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, module, package, where)


def _name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _room(module: str) -> str:
    """The entry of `jaxnet/` that a dotted name lies in; `__init__` where it is the package's own.

    >>> _room("jaxnet.nn.layers.Linear"), _room("jaxnet.fit"), _room("jaxnet")
    ('nn', '__init__', '__init__')
    """
    entry = module.split(".")[1] if "." in module else "__init__"
    return entry if entry in LEVEL else "__init__"


@functools.cache
def read_tree(root: Path) -> Tree:
    """Every file of the two packages; of what is not Python, the name alone."""
    return {
        path.relative_to(root).as_posix(): path.read_text("utf-8") if path.suffix == ".py" else ""
        for package in ("jaxnet", "torchref")
        for path in sorted((root / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def find_entries(tree: Tree) -> Iterator[str]:
    """At most 18 entries in `jaxnet/`, those of `LEVELS`, and `py.typed`."""
    entries = {path.split("/")[1].removesuffix(".py") for path in tree if path[:7] == "jaxnet/"}
    for entry in sorted(entries - LEVEL.keys() - {"py.typed"}):
        yield f"jaxnet/{entry} is no room"


def find_imports(tree: Tree) -> Iterator[str]:
    for path, source in tree.items():
        for target, line, where in list_imports(path, source) if path[-3:] == ".py" else ():
            fault = _judge(path, target, where)
            if fault:
                yield f"{path}:{line} {fault}"


def _judge(path: str, target: str, where: str) -> str | None:
    library, first = path.startswith("jaxnet/"), target.split(".")[0]
    here = _room(_name(path)) if library else ""
    if target.startswith("jax._src"):
        return f"imports {target}, a private module of JAX"
    if first in PICKLE:
        return f"imports {first}: nothing is pickled"
    if not library:
        return None
    if first == "torchref" or (first == "torch" and here != "convert"):
        return f"imports {first}"
    if first in APPLICATION and where == "module" and here not in ("lecture", "__main__"):
        return f"imports {first}, which lecture alone may need"
    if first != "jaxnet":
        return None
    there = _room(target)
    # The application uses the library as everybody does, by its public names.
    if there == here or (here == "lecture" and target == "jaxnet"):
        return None
    free = LEVEL[here] == LEVEL[there] == 0
    return None if free or LEVEL[there] < LEVEL[here] else f"imports {target}, above {here}"


def find_cycles(tree: Tree) -> Iterator[str]:
    """Modules that import each other; what runs later, in a function, makes no circle."""
    modules = {_name(path): path for path in tree if path[-3:] == ".py"}

    def resolve(target: str) -> str:
        return target if target in modules else target.rpartition(".")[0]

    graph = {
        module: {resolve(i.target) for i in list_imports(path, tree[path]) if i.where == "module"}
        for module, path in modules.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield "imports in a circle: " + " <- ".join(error.args[1])


def find_private(tree: Tree) -> Iterator[str]:
    """`jax._src` by its attributes, and NumPy's door to pickles."""
    for path, source in tree.items():
        if "_src" not in source and "allow_pickle" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "jax._src":
                yield f"{path}:{node.lineno} uses jax._src"
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                if ast.unparse(node.value) != "False":
                    yield f"{path}:{node.value.lineno} reads pickles"


def find_unlisted(tree: Tree) -> Iterator[str]:
    """Modules of the library without an underscore that their package's `__all__` takes nothing of.

    Callers import what a package lists; a module beside that is named as the package's own.
    """
    for path in tree:
        package = _name(path).rpartition(".")[0]
        init = f"{package.replace('.', '/')}/__init__.py"
        if not package.startswith("jaxnet") or path[-3:] != ".py":
            continue
        if init not in tree:
            yield f"{package} has no __init__.py"
        elif "._" in _name(path) or {package, _name(path)} & UNLISTED.keys():
            continue
        elif not _takes(init, tree[init], _name(path)):
            yield f"{path} is in no __all__: begin its name with an underscore, or list what it has"


@functools.cache
def _takes(init: str, source: str, module: str) -> bool:
    """Whether a package lists a module, or something that it imports from there."""
    listed = {
        name
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for name in ast.literal_eval(node.value)
    }
    taken = {i.target for i in list_imports(init, source) if i.target.rpartition(".")[2] in listed}
    return any(f"{target}.".startswith(f"{module}.") for target in taken)


RULES = (find_entries, find_imports, find_cycles, find_private, find_unlisted)


def find_faults(tree: Tree) -> list[str]:
    return [fault for rule in RULES for fault in rule(tree)]


def test_the_rooms_and_their_arrows():
    found = find_faults(read_tree(ROOT))
    assert not found, "\n".join(found)
    assert LEVEL.keys() > {"train", "convert"} and len(LEVEL) == 18


def add(path: str, *lines: str) -> tuple[str, str]:
    """Some lines at the end of a file, which is made where it is missing."""
    return path, "\n".join(["", *lines, ""])


PLANTS = {
    "jaxnet/extra is no room": add("jaxnet/extra.py"),
    "jaxnet/more is no room": add("jaxnet/more/notes.txt"),
    "imports jaxnet.train.fit, above data": add("jaxnet/data/loader.py",
                                                "from jaxnet.train import fit"),
    "imports jaxnet.train.state, above nn": add("jaxnet/nn/base.py", "from ..train import state"),
    "imports jaxnet.losses.mse_loss, above random": add(
        "jaxnet/random/state.py", "def draw():", "    from jaxnet.losses import mse_loss"),
    "imports jaxnet.convert.from_torch, above callbacks": add(
        "jaxnet/callbacks/report.py", "from jaxnet.convert import from_torch"),
    "imports jaxnet.fit, above sweep": add("jaxnet/sweep/run.py", "from jaxnet import fit"),
    "imports jaxnet, above sweep": add("jaxnet/sweep/run.py", "import jaxnet"),
    "imports torchref": add("jaxnet/lecture/doctor.py", "import torchref.lecture"),
    "verdict.py:.* imports torch": add("jaxnet/certificate/verdict.py", "import torch"),
    "files.py:.* imports torch": add("jaxnet/_utils/files.py", "from torch import nn"),
    "doctor.py:.* imports torch": add("jaxnet/lecture/doctor.py", 'import_module("torch.nn")'),
    "imports jax._src.core": add("jaxnet/nn/base.py", "from jax._src import core"),
    "imports jax._src.mesh": add("torchref/cli.py", "import jax._src.mesh"),
    "uses jax._src": add("jaxnet/cache.py", "STATE = jax._src.distributed"),
    "imports pickle": add("jaxnet/checkpoint/folder.py", "def save():", "    import pickle"),
    "reads pickles": add("jaxnet/data/mnist.py", "np.load(FILE, allow_pickle=True)"),
    "imports matplotlib, which": add("jaxnet/certificate/report.py", "import matplotlib"),
    "in a circle: .*jaxnet.nn.layers": add("jaxnet/nn/base.py", "import jaxnet.nn.layers"),
    "jaxnet/nn/parts.py is in no __all__": add("jaxnet/nn/parts.py", "def build(): pass"),
    "jaxnet.nn.more has no __init__.py": add("jaxnet/nn/more/_layers.py"),
    "jaxnet/nn/more/__init__.py is in no __all__": add("jaxnet/nn/more/__init__.py"),
}  # fmt: skip
"""What must be noticed, by what must be said of it."""

ALLOWED = [
    add("jaxnet/_utils/more.py", "from jaxnet import precision"),
    add("jaxnet/lecture/cli/doctor.py", "import jaxnet, click"),
    add("jaxnet/convert/modules.py", "import torch"),
    add("jaxnet/certificate/report.py", "def draw():", "    import matplotlib"),
    add("jaxnet/nn/base.py", "if TYPE_CHECKING:", "    import jaxnet.nn.layers"),
    add("jaxnet/nn/_parts.py", "import jax", "TEXT = 'import torch, jax._src'"),
    add("torchref/cli.py", "import torch, click, jaxnet.lecture._machine"),
]


def plant(path: str, lines: str) -> list[str]:
    """The faults of a copy of the tree, which has none, with these lines."""
    tree = read_tree(ROOT)
    return find_faults(tree | {path: tree.get(path, "") + lines})


@each_row("says, planted", PLANTS.items())
def test_a_planted_violation_is_noticed(says, planted):
    found = plant(*planted)
    assert any(re.search(says, fault) for fault in found), found


@each_row("planted", ALLOWED)
def test_what_is_allowed_is_no_violation(planted):
    assert not plant(*planted)


def test_import_jaxnet_loads_nothing_of_the_application():
    """Beside what the library's own packages load; that it shows, click does."""
    code = f"""
import sys, jax, flax.linen, optax
before = {{*sys.modules}}
for name in ("jaxnet", "click"):
    __import__(name)
    print(*({{*{HEAVY!r}}} & (sys.modules.keys() - before)))
"""
    assert run_python("-c", code) == "\nclick\n"
