"""How the house is built: imports run one way, files stay small, the command starts quickly."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).parent.parent
ORDER = ["generators", "encoders", "pipeline", "jobs"]
SOURCES = [path for package in ORDER for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


@pytest.mark.parametrize("package", ORDER)
def test_imports_run_one_way(package):
    above = set(ORDER[ORDER.index(package) + 1 :])
    for path in (ROOT / package).rglob("*.py"):
        found = {name.split(".")[0] for name in imported(path)} & above
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


@pytest.mark.parametrize("package", ["generators", "encoders"])
def test_networks_run_without_the_pipelines_libraries(package):
    for path in (ROOT / package).rglob("*.py"):
        found = {name.split(".")[0] for name in imported(path)}
        assert not found & {"ray", "webdataset", "dlib", "pyarrow", "click"}, path


@pytest.mark.parametrize("statement", ["import jobs.cli", "import pipeline"])
def test_starting_loads_neither_torch_nor_ray_nor_dlib(statement):
    code = f"import sys; {statement}; print(*{{'torch', 'ray', 'dlib'}} & sys.modules.keys())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""


def test_files_and_functions_stay_small():
    for path in SOURCES:
        text = path.read_text()
        assert text.count("\n") <= 400, f"{path.relative_to(ROOT)} is too long"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[-1].end_lineno - node.lineno + 1
                assert body <= 50, f"{path.relative_to(ROOT)}: {node.name} has {body} lines"


def test_public_names_have_docstrings():
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        if path.name != "__init__.py" or tree.body:
            assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} says nothing of itself"


def test_every_package_is_in_the_distribution():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]
    listed = set(setuptools.find_packages(str(ROOT), include=patterns["find"]["include"]))
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in SOURCES
        if path.name == "__init__.py"
    }
    assert packages <= listed
