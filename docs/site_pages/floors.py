"""A flow chart of mermaid, drawn as floors: the picture of docs/architecture.md, whose arrows all point downwards."""

import re
from html import escape
from itertools import pairwise

_BOX, _GAP, _FLOOR, _HEIGHT, _WAY = 92, 14, 78, 28, 24  # pixels; the last: of an arrow that passes a floor


def picture(text: str) -> str:
    """An SVG of ``a --> b`` lines: each name stands one floor above the highest that it points at.

    Raises:
        ValueError: arrows run in a circle, or there are none.
    """
    arrows = re.findall(r"^\s*(\w+) --> (\w+)\s*$", text, flags=re.MULTILINE)
    if not arrows:
        raise ValueError("there is no line of the form `a --> b`")
    below: dict[str, list[str]] = {name: [] for arrow in arrows for name in arrow}
    for upper, lower in arrows:
        below[upper].append(lower)
    names = {name: _floor_of(name, below, ()) for name in below}
    floor, ways = _steps(names, arrows)
    width, places = _places(floor, ways)
    height = (max(floor.values()) + 1) * _FLOOR
    parts = [
        f'<svg class="floors" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" role="img">',
        "<title>Which part imports which; an arrow points at what is imported</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M1,1 L7,4 L1,7"/></marker></defs>',
    ]
    for way in ways:
        curve = "".join(_curve(places[upper], places[lower]) for upper, lower in pairwise(way))
        parts.append(f'<path d="M{places[way[0]][0]:.0f},{places[way[0]][1]:.0f} {curve}" marker-end="url(#tip)"/>')
    for name in names:
        x, y = places[name]
        box = f'x="{x - _BOX / 2:.0f}" y="{y - _HEIGHT / 2:.0f}" width="{_BOX}" height="{_HEIGHT}" rx="4"'
        parts.append(f'<rect {box}/><text x="{x:.0f}" y="{y:.0f}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"])


def _curve(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    (x, y), (u, v) = upper, lower
    y, v = y + _HEIGHT / 2, v - _HEIGHT / 2
    bend = (v - y) / 2
    return f"L{x:.0f},{y:.0f} C{x:.0f},{y + bend:.0f} {u:.0f},{v - bend:.0f} {u:.0f},{v:.0f} "


def _floor_of(name: str, below: dict[str, list[str]], above: tuple[str, ...]) -> int:
    if name in above:
        raise ValueError(f"these point at each other: {', '.join(above)}")
    return max((1 + _floor_of(other, below, (*above, name)) for other in below[name]), default=0)


def _steps(names: dict[str, int], arrows: list[tuple[str, str]]) -> tuple[dict[str, int], list[list[str]]]:
    """Floors, with a place for an arrow on each that it passes, and the ways of the arrows from place to place."""
    floor, ways = dict(names), []
    for upper, lower in arrows:
        passed = [f"{upper} {lower} {number}" for number in range(names[upper] - 1, names[lower], -1)]
        floor |= {place: int(place.rpartition(" ")[2]) for place in passed}
        ways.append([upper, *passed, lower])
    return floor, ways


def _places(floor: dict[str, int], ways: list[list[str]]) -> tuple[float, dict[str, tuple[float, float]]]:
    """The width, and the middle of each box: each row in the order of the middles of its neighbours, up and down."""
    below: dict[str, list[str]] = {name: [] for name in floor}
    above: dict[str, list[str]] = {name: [] for name in floor}
    for way in ways:
        for upper, lower in pairwise(way):
            below[upper].append(lower)
            above[lower].append(upper)
    top = max(floor.values())
    rows = [[name for name in floor if floor[name] == number] for number in range(top + 1)]
    sizes = [sum(_WAY if " " in name else _BOX + _GAP for name in row) for row in rows]
    width = float(max(sizes))
    x: dict[str, float] = {}
    sweeps = [*range(top + 1), *range(top, -1, -1)] * 4
    for turn, number in enumerate(sweeps):
        beside = below if turn // (top + 1) % 2 == 0 else above

        def middle(name: str, beside: dict[str, list[str]] = beside) -> float:
            neighbours = [x[other] for other in beside[name] if other in x]
            return sum(neighbours) / len(neighbours) if neighbours else x.get(name, 0.0)

        rows[number].sort(key=middle)
        spare, edge = (width - sizes[number]) / len(rows[number]), 0.0
        for name in rows[number]:
            room = spare + (_WAY if " " in name else _BOX + _GAP)
            x[name], edge = edge + room / 2, edge + room
    return width, {name: (x[name], (top - floor[name] + 0.5) * _FLOOR) for name in floor}
