"""Run the notebooks from top to bottom, each in a fresh kernel, and store what they print and draw.

    python notebooks/execute.py            all of them (also: make notebooks)
    python notebooks/execute.py 05*.ipynb  only these

What changes from run to run (widget ids and state, timestamps) is dropped, so running twice writes the same bytes.
A notebook in which a cell fails, or writes to stderr, is left as it was.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).parent
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def execute(path: Path) -> None:
    """Run one notebook and write it back."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    clean(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise ValueError(f"{path.name}, cell {cell.execution_count} writes to stderr: {output.text[:2000]}")
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def clean(notebook: Any) -> None:
    """Take out what differs from run to run, and number the cells' ids."""
    version = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python", "pygments_lexer": "ipython3"}
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": version,
        }
    )
    notebook.nbformat_minor = 5
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:02}"
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = _merged(cell.outputs)
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(WIDGET_VIEW, None)
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})


def _merged(outputs: list[Any]) -> list[Any]:
    """Outputs with printed text in one piece: how a kernel cuts it is a matter of timing."""
    merged: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def main(arguments: list[str]) -> int:
    os.environ.update(OMP_NUM_THREADS="1", PYTHONHASHSEED="0")
    paths = [Path(argument) for argument in arguments] or sorted(HERE.glob("[0-9]*.ipynb"))
    for path in paths:
        started = time.perf_counter()
        try:
            execute(path)
        except (CellExecutionError, ValueError) as error:
            print(f"error: {path.name}: {error}", file=sys.stderr)
            return 1
        print(f"{path.name}: {time.perf_counter() - started:.1f} s, {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
