"""The numbers as lines and tables of at most 110 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Row = dict[str, Any]
WIDTH = 110
WAYS = ("reference", "eager", "graph", "compiled")
_ROW = ("latents_off", "alone_off", "first_batch_s")
_TIMED = ("compiled", "graph", "eager", "reference", "sweep")


def line(part: str, row: Row) -> str:
    """One measurement while the session runs."""
    shown = {k: v for k, v in row.items() if k not in ("top", "kernels_ms", "took_s", "best_ms")}
    if "images_per_s" in row:
        names = ("way", "precision", "batch")
        shown = {k: row[k] for k in names} | {"images/s": row["images_per_s"]["copied"]["median"]}
        shown |= {k: row[k] for k in _ROW} | ({} if row["finite"] else {"finite": "NOT FINITE"})
    words = [
        value if isinstance(value, str) else f"{k} {_short(value)}" for k, value in shown.items()
    ]
    for name in ("skipped", "failed"):
        if name in row:
            words[-1] = f"{name}: {' '.join(str(row[name]).split())}"
    return f"{part:10} {'  '.join(words)}"[:WIDTH]


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if 0 < abs(value) < 1e-2 else f"{value:.4g}"


def lines(content: dict[str, Any]) -> Iterator[str]:
    """The whole table."""
    parts = content["parts"]
    named = {k: content.get(k) for k in ("card", "torch", "cuda", "driver", "commit", "date")}
    yield ", ".join(f"{k} {v}" if k != "card" else str(v) for k, v in named.items() if v)
    rows = {name: parts.get(name, {}).get("rows", []) for name in parts}
    yield from _ceilings(rows.get("ceilings", []))
    timed = [row for name in _TIMED for row in rows.get(name, []) if "images_per_s" in row]
    steps = content["settings"]["steps"]
    yield from _throughput(timed, "copied", f"images/s, {steps} steps, pixels in and latents out")
    yield from _throughput(timed, "resident", f"images/s, {steps} steps, images on the device")
    yield from _others("seconds until the first batch", rows.get("compile", []))
    yield from _stages(rows.get("stages", []))
    yield from _others("parity", rows.get("parity", []))
    yield from _others("metrics", rows.get("metrics", []))
    yield from _problems(parts)


def _ceilings(rows: Iterable[Row]) -> Iterator[str]:
    words = []
    for row in rows:
        if "tflop_per_s" in row:
            words.append(f"{row['what']} {row['tflop_per_s']:.4g} TFLOP/s")
        elif "tb_per_s" in row:
            words.append(f"{row['what']} {row['tb_per_s']:.3g} TB/s")
    if words:
        yield "\nceilings"
        yield from (f"  {word}" for word in words)


def _throughput(rows: list[Row], kind: str, title: str) -> Iterator[str]:
    if not rows:
        return
    batches = sorted({row["batch"] for row in rows})
    found = {(row["way"], row["precision"], row["batch"]): row for row in rows}
    yield (
        f"\n{title:44}"
        + "".join(f"{f'B{batch}':>9}" for batch in batches)
        + "  latents off  peak GiB"
    )
    for way in WAYS:
        for precision in dict.fromkeys(row["precision"] for row in rows if row["way"] == way):
            own = [found.get((way, precision, batch)) for batch in batches]
            there = [row for row in own if row]
            cells = [
                f"{row['images_per_s'][kind]['median']:9.4g}" if row else f"{'':9}" for row in own
            ]
            off = max(row["latents_off"] for row in there)
            is_finite = all(row["finite"] for row in there)
            peak = max((row["peak_gib"] or 0.0 for row in there), default=0.0)
            yield (
                f"  {way:12}{precision:30}{''.join(cells)}"
                f"{f'{off:.1e}' if is_finite else 'NOT FINITE':>13}"
                f"{f'{peak:.1f}' if peak else '-':>10}"
            )


def _stages(rows: list[Row]) -> Iterator[str]:
    measured = [row for row in rows if "kernels_ms" in row]
    if not measured:
        return
    groups = list(measured[0]["kernels_ms"])
    yield f"\n{'ms of one step':32}{'ms':>8}{'launches':>10}" + "".join(f"{g:>13}" for g in groups)
    for row in measured:
        name = f"{row['stage']:10}{row['way']:10}{row['precision']:6}B{row['batch']}"
        cells = "".join(f"{row['kernels_ms'][group]:13.3f}" for group in groups)
        yield f"  {name:30}{row['ms']:8.3f}{row['launches']:10.0f}{cells}"
    for row in rows:
        if row["way"] == "floor" and "gflop" in row:
            name = f"{row['stage']:10}{row['way']:10}{row['precision']:6}B{row['batch']}"
            shown = {k: row[k] for k in ("gflop", "gb", "arithmetic_ms", "bytes_ms")}
            yield f"  {name:30}" + "  ".join(f"{k} {_short(v)}" for k, v in shown.items())
    largest = max(row["batch"] for row in measured)
    for row in measured:
        if row["batch"] == largest and row["way"] == measured[0]["way"]:
            yield f"\n{row['stage']}, {row['way']}, B{largest}: us an image"
            for kernel in row["top"]:
                told = f"{kernel['us_an_image']:9.2f}  {kernel['launches']:5.0f} x {kernel['group']:12}"
                yield f"  {told} {kernel['kernel']}"[:WIDTH]


def _others(title: str, rows: list[Row]) -> Iterator[str]:
    """What one line a row tells."""
    shown = [row for row in rows if not {"failed", "skipped"} & row.keys()]
    if shown:
        yield f"\n{title}"
        yield from (line("", row)[9:] for row in shown)


def _problems(parts: dict[str, Any]) -> Iterator[str]:
    """What has no number, and why."""
    yield ""
    for name, part in parts.items():
        for word in ("skipped", "failed"):
            if word in part:
                yield f"{name} {word}: {part[word]}"[:WIDTH]
        for row in part["rows"]:
            if {"failed", "skipped"} & row.keys():
                yield line(name, row)
            if row.get("holds") is False:
                yield f"{line(name, row)[: WIDTH - 20]}  DOES NOT HOLD"


def ratios(content: dict[str, Any], earlier: dict[str, Any]) -> Iterator[str]:
    """Images/s against an earlier session's."""
    was, now = _speeds(earlier), _speeds(content)
    common = [key for key in now if key in was]
    named = f"{earlier.get('card')}, commit {earlier.get('commit')}, {earlier.get('date')}"
    yield f"\nimages/s as a multiple of those of {named}"
    if not common:
        yield "  nothing was measured in both"
    for way, precision, batch in common:
        then, found = was[way, precision, batch], now[way, precision, batch]
        yield f"  {way:12}{precision:6}B{batch:<4}{found:9.4g} / {then:<9.4g}= {found / then:.3f}"


def _speeds(content: dict[str, Any]) -> dict[tuple[str, str, int], float]:
    return {
        (row["way"], row["precision"], row["batch"]): row["images_per_s"]["copied"]["median"]
        for name in _TIMED
        for row in content["parts"].get(name, {}).get("rows", [])
        if "images_per_s" in row
    }
