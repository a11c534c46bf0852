"""How the house is built, in numbers: ``python -m benchmarks.structure [CHECKOUT]``.

Rooms are the top packages, and of `pipeline` its packages and files. An import counts as an arrow from one
file to another wherever it stands, but not under ``if TYPE_CHECKING``, which no program runs.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

HOUSES = ("generators", "encoders", "pipeline", "jobs")
# From the ground up: a room imports those before it.
ROOMS = (
    "errors", "printing", "settings", "clip_config", "config", "records", "storage", "shards", "faces",
    "latents", "models", "engine", "inversion", "portraits", "training", "editing", "inverter", "report",
)  # fmt: skip


@dataclass
class House:
    """The files of the packages below a folder, and what they import of each other."""

    root: Path
    paths: dict[str, Path] = field(default_factory=dict)  # by module name

    def __post_init__(self) -> None:
        for house in HOUSES:
            for path in sorted((self.root / house).rglob("*.py")):
                name = ".".join(path.relative_to(self.root).with_suffix("").parts)
                self.paths[name.removesuffix(".__init__")] = path

    @cached_property
    def arrows(self) -> dict[str, set[str]]:
        """Modules that each module imports: of a package, the file that holds the name."""
        return {name: set(self._imports(name)) - {name} for name in self.paths}

    def _imports(self, name: str) -> Iterator[str]:
        for node in _run(ast.parse(self.paths[name].read_text())):
            if isinstance(node, ast.Import):
                yield from (a.name for a in node.names if a.name in self.paths)
            elif isinstance(node, ast.ImportFrom) and node.module in self.paths:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in self.paths else str(node.module)

    def circles(self) -> list[list[str]]:
        """Groups of files that import each other, directly or by way of others."""
        return [sorted(group) for group in _components(self.arrows) if len(group) > 1]

    def room_arrows(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """Arrows between rooms of `pipeline`, each with the files that it joins."""
        found = defaultdict(list)
        for source, targets in self.arrows.items():
            for target in targets:
                rooms = room(source), room(target)
                if all(r.startswith("pipeline.") for r in rooms) and rooms[0] != rooms[1]:
                    found[rooms].append((source, target))
        return dict(found)

    def against_the_order(self) -> list[tuple[str, str]]:
        """Files that import one of a room that comes after theirs."""
        place = {f"pipeline.{name}": i for i, name in enumerate(ROOMS)}
        return [
            pair
            for (source, target), pairs in self.room_arrows().items()
            if source in place and target in place and place[source] < place[target]
            for pair in pairs
        ]

    def floors(self) -> int:
        """Files that stand on each other at most: the longest way of arrows, a circle counted as one."""
        groups = _components(self.arrows)
        of = {name: i for i, group in enumerate(groups) for name in group}
        heights: list[int] = []
        for i, group in enumerate(groups):  # those that a group imports come before it
            below = {of[t] for name in group for t in self.arrows[name]} - {i}
            heights.append(1 + max((heights[j] for j in below), default=0))
        return max(heights)

    def shared_privately(self) -> list[str]:
        """Names with an underscore that another file imports or reaches for."""
        found = []
        for name, path in self.paths.items():
            tree = ast.parse(path.read_text())
            modules = {
                a.asname or a.name
                for n in ast.walk(tree)
                if isinstance(n, ast.ImportFrom)
                for a in n.names
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module in self.paths:
                    found += [f"{name}: {a.name}" for a in node.names if _is_private(a.name)]
                elif (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id in modules
                    and node.value.id.islower()
                    and _is_private(node.attr)
                ):
                    found.append(f"{name}: {node.value.id}.{node.attr}")
        return found

    def functions(self) -> list[tuple[int, str]]:
        """Lines of each function and its name."""
        return [
            (node.body[-1].end_lineno - node.lineno + 1, f"{name}.{node.name}")  # type: ignore[operator]
            for name, path in self.paths.items()
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef)
        ]

    def lines(self) -> dict[str, int]:
        return {name: path.read_text().count("\n") for name, path in self.paths.items()}


def room(module: str) -> str:
    """``pipeline.faces`` of ``pipeline.faces.images``; of other packages, the package."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "pipeline" else parts[0]


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _run(node)


def _components(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components (Tarjan 1972), what is imported before what imports it."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(arrows[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            at = stack.index(name)
            found.append(set(stack[at:]))
            del stack[at:]

    for name in arrows:
        if name not in index:
            visit(name)
    return found


def report(house: House) -> str:
    """All of it, for people."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for name, n in house.lines().items():
        sizes[room(name)].append(n)
    private, circles, against = house.shared_privately(), house.circles(), house.against_the_order()
    longest = sorted(((n, name) for name, n in house.lines().items()), reverse=True)
    text = [f"{'room':24} files  lines"]
    text += [f"{name:24} {len(n):5} {sum(n):6}" for name, n in sorted(sizes.items())]
    text += [f"circles between files: {len(circles)}", *(f"  {' <-> '.join(c)}" for c in circles)]
    text += [f"imports against the order of rooms: {len(against)}"]
    text += [f"  {source} -> {target}" for source, target in against]
    text += [f"floors: {house.floors()}"]
    text += [
        f"private names used by other files: {len(private)}",
        *(f"  {name}" for name in private),
    ]
    text += ["longest files:", *(f"  {n} {name}" for n, name in longest[:5])]
    text += [
        "longest functions:",
        *(f"  {n} {name}" for n, name in sorted(house.functions(), reverse=True)[:5]),
    ]
    return "\n".join(text)


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    print(report(House(Path(sys.argv[1] if len(sys.argv) > 1 else "."))))
