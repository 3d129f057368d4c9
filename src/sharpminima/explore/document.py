"""The page of a study: what is read, put together to one HTML file."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs, get_plotlyjs_version

from sharpminima.base.errors import FigureError
from sharpminima.base.files import read_json, write_text
from sharpminima.explore.chart import Chart
from sharpminima.explore.claims import claims_list
from sharpminima.explore.curves import curves_chart
from sharpminima.explore.errors import errors_chart
from sharpminima.explore.origins import origins_chart, origins_lists
from sharpminima.explore.planes import LOSS, PSP, plane_chart
from sharpminima.explore.spectra import line_chart, spectrum_chart
from sharpminima.report.claims import VERDICTS
from sharpminima.report.tables import distinct, read_table
from sharpminima.report.titles import title_of_net
from sharpminima.study.jobs import Layout

_PARTS = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Section:
    """A part of the page: one sentence on what it shows, its charts, and HTML below them."""

    id: str
    title: str
    sentence: str
    charts: Sequence[Chart] = ()
    html: str = ""


def write_page(layout: Layout) -> Path:
    """Write the page of a finished study, and say where: equal results give equal bytes.

    What a study does not measure is left out, with a sentence in its place. The page holds Plotly itself and reads no
    other file.

    Raises:
        FigureError: results are missing, or are not what the pipeline writes.
    """
    lacking = [path for path in layout.explore_job().inputs if not Path(path).is_file()]
    if lacking:
        others = f" and {len(lacking) - 1} others" if len(lacking) > 1 else ""
        make = f"snakemake --cores all --config study={layout.config.study} -- explore"
        raise FigureError(
            f"{lacking[0]}{others}: missing; `{make}` makes what the page of the study needs, and the page"
        )
    out = Path(layout.explorer())
    write_text(out, _document(layout, _sections(layout)))
    return out


def _sections(layout: Layout) -> list[Section]:
    numbers = read_json(layout.numbers())
    results = read_table("results", layout.table("results"))
    surfaces = [read_table("surface", path) for path in layout.analysis_tables("surface")]
    return [
        Section(
            "errors",
            "Test error",
            "Every net of the study is a small point: how much of it was removed, and what it gets wrong on test "
            "images. Large points are means over runs, of controls over the draws at one run's mask, bars one sample "
            "standard deviation. A click on a small point leads to its training.",
            [errors_chart(results, layout)],
        ),
        _where_measured(
            "planes",
            "The plane through G and 1-S",
            "The loss, and a quantity of your choice, over the plane through the pruned net G and its rewound 1-S: "
            "whether a valley joins the two, and how neurons' states change there. Drag a surface to turn "
            "it, or give it the focus and use the arrow keys.",
            "no run's plane has been mapped",
            surfaces,
            lambda: [
                plane_chart("plane-loss", "Loss over the plane through G and 1-S", surfaces, LOSS),
                plane_chart("plane-psp", "PSP quantities over the plane through G and 1-S", surfaces, PSP),
            ],
        ),
        *_eigenvalues(layout),
        Section(
            "curves",
            "Training",
            "Loss (solid: training, dotted: validation), validation error and the share removed, over the epochs of "
            "each training. Triangles are the removals of a gradual method.",
            [curves_chart(layout)],
        ),
        Section(
            "claims",
            "The paper's claims",
            "Each statement of the paper with the verdict that this study's numbers give. Open one to see the "
            "comparisons behind it: mean ± sample standard deviation, differences with their 95 % intervals.",
            html=claims_list(numbers["claims"]),
        ),
        _where_measured(
            "origins",
            "Where each figure comes from",
            "Read from left to right: data, initialisations, nets, tables, and the figure that they end in; the lists "
            "below name each file with its hash, and the settings that made it.",
            "the study draws no figures",
            chains := [read_json(layout.provenance(name)) for name in layout.study.figures],
            lambda: [origins_chart(chains)],
            lambda: origins_lists(chains),
        ),
    ]


def _eigenvalues(layout: Layout) -> Iterable[Section]:
    hessian = read_table("hessian", layout.analysis_tables("hessian"))
    yield _where_measured(
        "spectrum",
        "Eigenvalues at G and 1-S",
        "The largest eigenvalues of the Hessian of the loss, by rank: the higher, the sharper the minimum at the "
        "weights' present scale; those of relative changes do not depend on that scale. Points are "
        "runs, lines means; hollow points did not pass the residual test.",
        "no eigenvalues have been measured",
        hessian.index,
        lambda: [spectrum_chart(hessian)],
    )
    line = read_table("line", layout.analysis_tables("line"))
    yield _where_measured(
        "line",
        "Eigenvalues between them",
        "The largest eigenvalues along the straight line from G to 1-S. Points are runs, lines means.",
        "no eigenvalues have been measured along the line from G to 1-S",
        line.index,
        lambda: [line_chart(line)],
    )


def _where_measured(
    id: str,
    title: str,
    sentence: str,
    absent: str,
    data: Any,
    charts: Callable[[], Sequence[Chart]],
    html: Callable[[], str] = str,
) -> Section:
    """A section, or the sentence that says why it is empty."""
    if len(data):
        return Section(id, title, sentence, charts(), html())
    return Section(id, title, f"Left out: {absent} in this study.")


def _document(layout: Layout, sections: Sequence[Section]) -> str:
    charts = {chart.id: chart.as_json() for section in sections for chart in section.charts}
    page = (_PARTS / "page.html").read_text(encoding="utf-8")
    parts = {
        "title": escape(f"{layout.name}: {layout.study.title}"),
        "heading": escape(layout.study.title),
        "about": _about(layout),
        "links": "".join(f'<a href="#{section.id}">{escape(section.title)}</a>' for section in sections),
        "sections": "\n".join(map(_section, sections)),
        "style": (_PARTS / "page.css").read_text(encoding="utf-8"),
        "charts": _embedded(charts),
        "plotly": get_plotlyjs().replace("</script", "<\\/script"),
        "script": "\n".join((_PARTS / name).read_text(encoding="utf-8") for name in ("charts.js", "page.js")),
        "version": escape(get_plotlyjs_version()),
    }
    head, *rest = page.split("{{")  # no part is searched for the marks of others
    return head + "".join(parts[name] + text for name, _, text in (piece.partition("}}") for piece in rest))


def _about(layout: Layout) -> str:
    said = [f"Study <b>{escape(layout.name)}</b>"]
    nets = distinct(read_table("results", layout.table("results"))).groupby(["model", "dataset"], sort=False).size()
    said.append(", ".join(f"{escape(title_of_net(*key))} ({count:,} nets)" for key, count in nets.items()))
    verdicts = read_json(layout.numbers())["verdicts"]
    said.append("claims: " + ", ".join(f"{verdicts[name]} {name}" for name in VERDICTS if verdicts.get(name)))
    return "<br>".join(said)


def _section(section: Section) -> str:
    charts = "".join(_figure(chart) for chart in section.charts)
    pair = " pair" if len(section.charts) > 1 else ""
    body = f'<div class="charts{pair}">{charts}</div>' if charts else ""
    return (
        f'<section id="{section.id}"><h2>{escape(section.title)}</h2><p class=says>{escape(section.sentence)}</p>'
        f"{body}{section.html}</section>"
    )


def _figure(chart: Chart) -> str:
    tall = (" tall" if chart.tall else "") + (" scrolls" if chart.scrolls else "")
    table = "<details class=numbers><summary>The numbers drawn, as a table</summary></details>" if chart.table else ""
    turns = ' tabindex=0 title="Arrow keys turn it"' if chart.turns else ""
    return (
        f'<figure class=chart data-chart="{chart.id}"><form class=controls aria-label="{escape(chart.label)}: choose">'
        f'</form><div class="plot{tall}" id="plot-{chart.id}" role=img aria-label="{escape(chart.label)}"{turns}></div>'
        f"<p class=note role=status></p><div class=picked aria-live=polite></div>{table}</figure>"
    )


def _embedded(charts: Mapping[str, Any]) -> str:
    """JSON that no text in it can end."""
    text = json.dumps(charts, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c")
