"""Docstrings as the project writes them, made ready for the pages of the reference."""

import re
from typing import Any

import griffe

_ITEMS = {"Args": "Arguments", "Raises": "Raises"}
_SECTION = re.compile(r"^(Args|Raises|Returns):\n((?:[ ]+\S.*\n?|\n(?=[ ]))+)", re.MULTILINE)
_DOCTEST = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"`((?:jaxnet|torchref)(?:\.\w+)+)`")


class Docstrings(griffe.Extension):
    """Doctests in boxes, sections as lists, names of jaxnet's as links, and fields as arguments."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring as Markdown."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Give a NamedTuple or a module of `jaxnet.nn` the signature that its fields make."""
        kinds = {str(base).split(".")[-1] for base in cls.bases}
        if kinds & {"NamedTuple", "Module"} and "__init__" not in cls.members:
            cls.set_member("__init__", _make_init(cls))

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """List what classes have, and unveil functions that bear their file's name."""
        _walk(pkg)


def to_markdown(docstring: str) -> str:
    """A docstring of the project's as Markdown: sections as lists, doctests in boxes."""
    text = _DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", docstring)
    text = _SECTION.sub(_write_section, text + "\n").rstrip("\n")
    parts = _FENCE.split(text)
    parts[::2] = [_NAME.sub(_link, part) for part in parts[::2]]
    return "".join(parts)


def _write_section(found: re.Match[str]) -> str:
    kind, body = found[1], _dedent(found[2])
    if kind == "Returns":
        return f"**Returns**\n\n{body}\n"
    items = re.split(r"\n(?=\S)", body)
    return f"**{_ITEMS[kind]}**\n\n" + "\n".join(map(_write_item, items)) + "\n"


def _write_item(item: str) -> str:
    names, _, text = item.partition(": ")
    shown = ", ".join(f"**`{name}`**" for name in names.split(", "))
    return f"- {shown}: " + " ".join(text.split())


def _dedent(body: str) -> str:
    lines = body.rstrip("\n").split("\n")
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] for line in lines)


def _link(found: re.Match[str]) -> str:
    # Optional: what has no place in the reference stays as it is, a name.
    return f'<autoref identifier="{found[1]}" optional><code>{found[1]}</code></autoref>'


def _make_init(cls: griffe.Class) -> griffe.Function:
    kind = griffe.ParameterKind.positional_or_keyword
    fields = [
        griffe.Parameter(name, annotation=field.annotation, kind=kind, default=field.value)
        for name, field in cls.attributes.items()
        if field.annotation is not None and "property" not in field.labels
    ]
    this = griffe.Parameter("self", annotation=None, kind=kind, default=None)
    return griffe.Function("__init__", parameters=griffe.Parameters(this, *fields), parent=cls)


def _walk(module: griffe.Module) -> None:
    for member in list(module.members.values()):
        if member.is_alias:
            continue
        if isinstance(member, griffe.Class):
            _list_members(member)
        elif isinstance(member, griffe.Module):
            _walk(member)
            if member.path == "jaxnet.certificate.bounds":
                _take_comments(member)
    for file in [file for name, file in module.modules.items() if name in (module.exports or ())]:
        if file.name in file.members:
            _unveil(module, file)


def _list_members(cls: griffe.Class) -> None:
    """Fields and short methods as lists: a heading for each would bury the rest."""
    lists = {"Fields": [], "Methods": []}
    for name, member in cls.members.items():
        if member.is_alias or not member.docstring or name.startswith("_") and name != "__call__":
            continue
        text = " ".join(member.docstring.value.split())
        if isinstance(member, griffe.Attribute):
            lists["Fields"].append(f"- **`{name}`**: {text}")
        elif isinstance(member, griffe.Function) and "\n\n" not in member.docstring.value:
            shown = ", ".join(map(_write_parameter, list(member.parameters)[1:]))
            lists["Methods"].append(f"- **`{name}({shown})`**: {text}")
        else:
            continue
        member.docstring = None
    parts = [f"**{kind}**\n\n" + "\n".join(items) for kind, items in lists.items() if items]
    if parts:
        before = cls.docstring.value if cls.docstring else ""
        cls.docstring = griffe.Docstring("\n\n".join([before, *parts]), parent=cls)


def _write_parameter(parameter: griffe.Parameter) -> str:
    return parameter.name + (f"={parameter.default}" if parameter.default is not None else "")


def _unveil(package: griffe.Module, file: griffe.Module) -> None:
    """`jaxnet.optim.adam` is a function, from a file of that name, which stands in its way."""
    for name in list(file.members):
        if name in (package.exports or ()):
            found = file.members[name]
            package.set_member(name, found)


def _take_comments(module: griffe.Module) -> None:
    """The reason for a bound stands in the comment above it."""
    lines = ["", *module.lines]
    for name, bound in module.attributes.items():
        if not bound.lineno:
            continue
        end = bound.lineno
        while re.match(r"[A-Z]", lines[end - 1]):  # several bounds below one comment
            end -= 1
        begin = end
        while lines[begin - 1].startswith("#"):
            begin -= 1
        if begin < end:
            text = " ".join(line.lstrip("# ") for line in lines[begin:end])
            bound.docstring = griffe.Docstring(text, parent=bound)
        module.members[name] = bound
