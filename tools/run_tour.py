"""Runs examples/tour.ipynb and keeps what its cells show.

    python tools/run_tour.py

The notebook is committed with its outputs, so that it can be read where it lies. `tests/docs/test_tour.py`
runs it as well and compares. Counters, times and the kernel's own version are not kept: they differ each time.
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TOUR = Path(__file__).resolve().parents[1] / "examples" / "tour.ipynb"


def executed(path: Path = TOUR) -> nbformat.NotebookNode:
    """The notebook with the outputs of a fresh run in the folder that it lies in."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, record_timing=False, resources={"metadata": {"path": path.parent}})
    # Figures as a reader sees them, whatever backend is set; one thread, as the networks are small.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    client.execute(env=environment | {"OMP_NUM_THREADS": "1"})
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.pop("metadata", None) if output.output_type == "stream" else output.update(metadata={})
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook


if __name__ == "__main__":
    nbformat.write(executed(), TOUR)
    print(f"{TOUR.name}: {TOUR.stat().st_size / 1e6:.1f} MB")
