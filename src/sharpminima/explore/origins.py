"""What each figure comes from, as a graph, and its files with their hashes as lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import PurePosixPath
from typing import Any

from sharpminima.explore.chart import Chart, Control, base_layout, options
from sharpminima.report.titles import title_of_dataset, title_of_net

_COLOURS = {
    "figure": "#D55E00",
    "notebook": "#CC79A7",
    "code": "#888888",
    "table": "#E69F00",
    "checkpoint": "#0072B2",
    "data": "#009E73",
    "plug-in": "#56B4E9",
}
"""Kind of an origin -> its colour, of Okabe and Ito's palette."""
_NAMED = 3  # methods that have nodes of their own, at most
_STEPS = {
    "init": "W0",
    "dense": "dense nets",
    "prune": "states of {method}",
    "retrain": "retrained at masks of {method}",
}


@dataclass
class _Group:
    """Files that are one node of the graph."""

    kind: str
    files: list[str] = field(default_factory=list)


def origins_chart(chains: Sequence[Mapping[str, Any]]) -> Chart:
    """A graph a figure: from the data on the left to the figure on the right.

    Args:
        chains: of `sharpminima.report.provenance.chain`.
    """
    return Chart(
        id="origins",
        label="What a figure comes from: data, checkpoints, tables, code, figure",
        traces=[_graph(chain) for chain in chains],
        layout=base_layout(margin={"l": 8, "r": 8, "t": 14, "b": 14}),
        controls=[Control("figure", "Figure", options((c["figure"], c["figure"]) for c in chains), "one")],
        tall=True,
        scrolls=True,
    )


def origins_lists(chains: Sequence[Mapping[str, Any]]) -> str:
    """HTML: the files of each node, with the SHA-256 of each, and the settings that made them."""
    parts = []
    for chain in chains:
        for name, group in _groups(chain).items():
            rows = "".join(_row(path, chain["origins"][path]) for path in group.files)
            settings = dict.fromkeys(_settings(chain["origins"][path]) for path in group.files)
            said = "".join(f"<p class=settings>{escape(text)}</p>" for text in settings if text)
            parts.append(
                f'<details data-chart="origins" data-control="figure" data-value="{escape(chain["figure"])}">'
                f"<summary>{escape(name)}</summary>{said}"
                f'<div class="wide"><table><tr><th>file<th>SHA-256{rows}</table></div></details>'
            )
    return "\n".join(parts)


def _groups(chain: Mapping[str, Any]) -> dict[str, _Group]:
    """Name of a node -> its files, in the order in which they were made."""
    methods = {node["method"] for node in chain["origins"].values() if "method" in node}
    groups: dict[str, _Group] = {}
    for path, node in chain["origins"].items():
        method = node.get("method", "") if len(methods) <= _NAMED else f"{len(methods)} methods"
        groups.setdefault(_name(path, node, chain, method), _Group(node["kind"])).files.append(path)
    return groups


def _name(path: str, node: Mapping[str, Any], chain: Mapping[str, Any], method: str) -> str:
    match node["kind"]:
        case "figure":
            return f"{chain['figure']} of study {chain['study']}"
        case "data":
            return f"data: {title_of_dataset(PurePosixPath(path).stem)}"
        case "checkpoint":
            dataset, model = path.partition("/runs/")[2].split("/")[:2]
            what = _STEPS[node["step"]].format(method=method)
            return f"{title_of_net(model, dataset)}: {what}"
        case "table":
            return "table of results" if node["step"] == "table" else f"tables of {node['step']}"
        case "code":
            return "code"
        case "notebook":
            return f"notebook {PurePosixPath(path).name}"
        case kind:
            return f"{kind} {path}"


def _graph(chain: Mapping[str, Any]) -> dict[str, Any]:
    groups = _groups(chain)
    place = {path: number for number, group in enumerate(groups.values()) for path in group.files}
    links: dict[tuple[int, int], int] = {}
    for path, node in chain["origins"].items():
        for origin in node.get("from", []):
            if origin in place:
                pair = (place[origin], place[path])
                links[pair] = links.get(pair, 0) + 1
    counted = [f"{len(group.files)} file{'s' if len(group.files) > 1 else ''}" for group in groups.values()]
    return {
        "type": "sankey",
        "arrangement": "snap",
        "node": {
            "label": [name.replace(": ", "<br>") for name in groups],
            "color": [_COLOURS[group.kind] for group in groups.values()],
            "customdata": counted,
            "hovertemplate": "%{label}<br>%{customdata}; listed below<extra></extra>",
            "pad": 14,
            "thickness": 12,
            "line": {"width": 0},
        },
        "link": {
            "source": [source for source, _ in links],
            "target": [target for _, target in links],
            # Equal widths: that a thousand nets are in a table says nothing against its one notebook.
            "value": [1] * len(links),
            "customdata": list(links.values()),
            "color": "rgba(120,120,120,0.25)",
            "hovertemplate": "%{source.label} → %{target.label}<br>read %{customdata} times<extra></extra>",
        },
        "meta": {"figure": chain["figure"]},
    }


def _row(path: str, node: Mapping[str, Any]) -> str:
    known = node.get("sha256") or f"version {node['version']}"
    return f"<tr><td>{escape(path)}<td><code>{escape(known)}</code>"


def _settings(node: Mapping[str, Any]) -> str:
    said = [
        f"{name}: " + ", ".join(f"{key} {value}" for key, value in node[name].items())
        for name in ("settings", "runtime", "raw_sha256")
        if node.get(name)
    ]
    return "; ".join(said)
