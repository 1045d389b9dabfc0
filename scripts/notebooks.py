"""Take the lecture's code into its Korean twin, run all notebooks, and keep what they print.

python -m scripts.notebooks
"""

import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat

FOLDER = Path(__file__).parents[1] / "examples"
LECTURE, TWIN, FROM_TORCH = "lecture.ipynb", "lecture_ko.ipynb", "from_torch.ipynb"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},  # its version would change from machine to machine
}


def read(name: str) -> nbformat.NotebookNode:
    """A notebook of the examples."""
    return nbformat.read(FOLDER / name, as_version=4)


def carry(lecture: nbformat.NotebookNode, twin: nbformat.NotebookNode) -> None:
    """Put the lecture's code, ids and tags into its twin, whose own are the words.

    Raises:
      ValueError: the two have not the same kinds of cells in the same order.
    """
    kinds, other = ([cell.cell_type for cell in book.cells] for book in (lecture, twin))
    if kinds != other:
        counts = (f"{k.count('markdown')} markdown and {k.count('code')}" for k in (kinds, other))
        first = next(
            (i for i, pair in enumerate(zip(kinds, other, strict=False)) if len(set(pair)) == 2),
            min(len(kinds), len(other)),
        )
        raise ValueError(
            f"{LECTURE} has {next(counts)} code cells, {TWIN} {next(counts)}; from cell "
            f"{first + 1} on they differ in kind: give {TWIN} the same cells in the same order"
        )
    for source, cell in zip(lecture.cells, twin.cells, strict=True):
        cell.id, cell.metadata = source.id, source.metadata
        if cell.cell_type == "code":
            cell.source = source.source


def execute(notebook: nbformat.NotebookNode) -> None:
    """Run every cell in a fresh kernel, in an empty folder, and keep the outputs in their cells.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell raised.
    """
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
    with tempfile.TemporaryDirectory() as folder:
        nbclient.NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            coalesce_streams=True,  # how a print is cut into messages changes from run to run
            record_timing=False,
            resources={"metadata": {"path": folder}},
        ).execute()
    notebook.metadata = nbformat.from_dict(METADATA)


def texts(notebook: nbformat.NotebookNode, stream: str = "stdout") -> dict[str, str]:
    """What each cell printed, by the cell's id."""
    return {
        cell.id: "".join(out.text for out in cell.outputs if out.get("name") == stream)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def main() -> None:
    books = {name: read(name) for name in (LECTURE, TWIN, FROM_TORCH)}
    try:
        carry(books[LECTURE], books[TWIN])
    except ValueError as error:
        sys.exit(f"error: {error}")
    for name, book in books.items():
        execute(book)
        if said := "".join(texts(book, "stderr").values()):
            sys.exit(f"error: {name} writes to stderr:\n{said}")
        nbformat.write(book, FOLDER / name)
        print(name, "is up to date")


if __name__ == "__main__":
    main()
