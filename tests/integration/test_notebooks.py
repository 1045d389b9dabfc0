"""The notebooks run as they are stored, and what they show is what they give."""

import copy
import json
import re

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from scripts import notebooks
from scripts.notebooks import FROM_TORCH, LECTURE, TWIN

ALL = [LECTURE, TWIN, FROM_TORCH]
ROUNDING = "rounding"  # tags a cell that prints errors in the last bits, or what depends on them
LARGEST = 600_000  # bytes of a file


@pytest.mark.parametrize("name", [FROM_TORCH])  # the lecture, for minutes, in tests/slow
def test_it_runs_and_prints_what_is_stored(name):
    stored = notebooks.read(name)
    fresh = copy.deepcopy(stored)
    if name == LECTURE:
        needless = "import sys\nassert not {'torch', 'torchvision'} & set(sys.modules)"
        fresh.cells.append(nbformat.v4.new_code_cell(needless, id="needless"))
    notebooks.execute(fresh)
    rounded = {cell.id for cell in stored.cells if ROUNDING in cell.metadata.get("tags", [])}
    printed = notebooks.texts(fresh)
    for place, text in notebooks.texts(stored).items():
        if place in rounded:
            text, printed[place] = (t.partition("\n")[0] for t in (text, printed[place]))
            text, printed[place] = (re.sub(r"\d*\.\d+", "", t) for t in (text, printed[place]))
        assert printed[place] == text, place
    assert not "".join(notebooks.texts(fresh, "stderr").values())


def test_the_korean_lecture_has_the_same_code():
    lecture, twin = notebooks.read(LECTURE), notebooks.read(TWIN)
    assert [(c.id, c.cell_type) for c in lecture.cells] == [(c.id, c.cell_type) for c in twin.cells]
    for ours, its in zip(lecture.cells, twin.cells, strict=True):
        if ours.cell_type == "code":
            assert its.source == ours.source, ours.id
        else:
            assert re.search("[가-힣]", its.source), its.id
            assert not re.search("[가-힣]", ours.source), ours.id
    assert notebooks.texts(twin) == notebooks.texts(lecture)


def test_the_korean_lecture_shows_the_same_figures():
    """Numbers, code and tables of the words are the original's."""
    lecture, twin = notebooks.read(LECTURE), notebooks.read(TWIN)
    for ours, its in zip(lecture.cells, twin.cells, strict=True):
        if ours.cell_type == "markdown":
            exact = r"\.\d{2,}|\d{2,3},\d{3}|^#+|^\||^```"
            found, expected = (
                sorted(re.findall(exact, cell.source, re.MULTILINE)) for cell in (its, ours)
            )
            assert found == expected, ours.id


@pytest.mark.parametrize("name", ALL)
def test_it_is_stored_as_the_script_stores_it(name):
    notebook = notebooks.read(name)
    nbformat.validate(notebook)
    text = (notebooks.FOLDER / name).read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST
    assert notebook.metadata == notebooks.METADATA
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in codes] == list(range(1, len(codes) + 1))
    for cell in codes:
        assert set(cell.metadata) <= {"tags"}
        assert len(cell.source.splitlines()) <= 28, cell.id
        kinds = {out.output_type for out in cell.outputs}
        assert kinds <= {"stream", "display_data"}, cell.id
    assert not "".join(notebooks.texts(notebook, "stderr").values())
    words = [cell.source for cell in notebook.cells] + list(notebooks.texts(notebook).values())
    assert not re.search(r"(?<![\w.`])/(?:\w+/)+|[A-Z]:\\|Warning", "\n".join(words))
    assert json.loads(text)["nbformat"] == 4


def test_the_script_refuses_a_twin_of_another_shape(monkeypatch, tmp_path):
    for name in ALL:
        nbformat.write(notebooks.read(name), tmp_path / name)
    twin = nbformat.read(tmp_path / TWIN, as_version=4)
    twin.cells.insert(0, twin.cells.pop(1))
    nbformat.write(twin, tmp_path / TWIN)
    before = [(tmp_path / name).read_bytes() for name in ALL]
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    with pytest.raises(SystemExit, match=f"{TWIN} .*: give {TWIN} the same cells") as exit:
        notebooks.main()
    assert isinstance(exit.value.code, str)  # Python prints it and exits with 1
    assert [(tmp_path / name).read_bytes() for name in ALL] == before


def test_the_script_carries_code_runs_it_and_stores_the_same_bytes_each_time(monkeypatch, tmp_path):
    def write(name, *cells):
        book = nbformat.v4.new_notebook(cells=list(cells))
        nbformat.write(book, tmp_path / name)

    code, words = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    write(LECTURE, words("One.", id="one"), code("print(1)\nprint(2)", id="print"))
    write(TWIN, words("하나."), code("print(3)"))
    write(FROM_TORCH, code("pass", id="pass"))
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    notebooks.main()
    first = [(tmp_path / name).read_bytes() for name in ALL]
    notebooks.main()
    assert [(tmp_path / name).read_bytes() for name in ALL] == first
    twin = notebooks.read(TWIN)
    assert [cell.source for cell in twin.cells] == ["하나.", "print(1)\nprint(2)"]
    assert notebooks.texts(twin) == {"print": "1\n2\n"}
    assert twin.cells[0].id == "one"


def test_a_cell_that_raises_is_an_error():
    raising = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        notebooks.execute(raising)
