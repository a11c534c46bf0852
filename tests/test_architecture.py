"""How the house is built: imports run one way, files stay small, the command starts quickly."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import setuptools

from benchmarks.structure import ROOMS, House, room

ROOT = Path(__file__).parent.parent
ORDER = ["generators", "encoders", "pipeline", "jobs"]
# Methods whose meaning a base class gives them.
OVERRIDDEN = {"forward", "at"}
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


def test_no_two_files_import_each_other():
    assert House(ROOT).circles() == []


def test_imports_between_rooms_run_one_way():
    house = House(ROOT)
    rooms = {room(name).removeprefix("pipeline.") for name in house.paths if "pipeline." in name}
    assert rooms == set(ROOMS), "a new room needs its place in the order"
    assert house.against_the_order() == []


def test_no_file_reaches_for_anothers_private_names():
    assert House(ROOT).shared_privately() == []


def test_a_house_that_is_built_badly_is_seen(tmp_path):
    files = {
        "errors": "import pipeline.storage.urls", "storage/urls": "from pipeline.storage import listing",
        "storage/listing": "def f():\n    from pipeline.storage.urls import _part", "storage/__init__": "",
    }  # fmt: skip
    (tmp_path / "pipeline" / "storage").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "pipeline" / f"{name}.py").write_text(text)
    house = House(tmp_path)
    assert house.circles() == [["pipeline.storage.listing", "pipeline.storage.urls"]]
    assert house.against_the_order() == [("pipeline.errors", "pipeline.storage.urls")]
    assert house.shared_privately() == ["pipeline.storage.listing: _part"]


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
    """Modules, classes, functions and methods; a property, or an override, may say it by its name."""
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        if path.name != "__init__.py" or tree.body:
            assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} says nothing of itself"
        silent = [name for name, node in public(tree) if not ast.get_docstring(node)]
        assert not silent, f"{path.relative_to(ROOT)}: {', '.join(silent)} without a docstring"


def public(tree):
    """Classes, functions and methods that others may use."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            yield from ((f"{node.name}.{name}", inner) for name, inner in public(node))
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            is_property = any("property" in ast.unparse(d) for d in node.decorator_list)
            is_stub = isinstance(node.body[-1], ast.Expr) and len(node.body) == 1
            if not (is_property or is_stub or node.name in OVERRIDDEN):
                yield node.name, node


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
