"""docs/notebook.ipynb: of notebook format 4.5, of no machine in particular, and it runs to its end."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATH = ROOT / "docs" / "notebook.ipynb"
NOTEBOOK = json.loads(PATH.read_text())
SOURCES = ["".join(c["source"]) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]

# Each cell as Jupyter runs it: its last expression is shown, by the HTML that it has.
RUNNER = """
import ast, json, sys

names = {"__name__": "__main__"}
for number, source in enumerate(json.load(sys.stdin)):
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"cell {number}", "exec"), names)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        shown = value._repr_html_() if hasattr(value, "_repr_html_") else repr(value)
        print(number, type(value).__name__, len(repr(value)), shown[:200])
print("ray" in sys.modules)
"""


def test_it_is_a_notebook():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        common = {"id", "cell_type", "metadata", "source"}
        extra = {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        assert set(cell) == common | extra
        assert not cell.get("outputs")
        assert all(line.endswith("\n") for line in cell["source"][:-1])


def test_it_runs_from_top_to_bottom(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    environment["PYTHONWARNINGS"] = "error::RuntimeWarning"
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(SOURCES),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    *shown, has_ray = done.stdout.splitlines()
    assert has_ray == "False"
    text = "\n".join(shown)
    assert "<figure" in text
    assert "no face was found" in text
    assert "['face.npy', 'smiling.jpg', 'smiling.png']" in text
    lengths = [int(line.split()[2]) for line in shown if line[0].isdigit()]
    assert max(lengths) < 1000, "short reprs"
