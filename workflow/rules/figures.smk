# Figures are notebooks executed by papermill; the plotting code they share lies in src.
PLOTTING = [f"src/sharpminima/figures/{module}.py" for module in ("style", "plots", "notebook")]


def parameters(**tables):
    """The notebook's parameters as JSON; paths only, so that a figure depends on nothing else."""
    return json.dumps(tables, sort_keys=True)


def analyses_of_focus(name, seeds):
    """Tables of one analysis of the experiment that Fig. 2-4 show."""
    return [f"{LAYOUT.analysis(**LAYOUT.focus(), seed=seed)}/{name}.csv" for seed in seeds]


def figure_files(name):
    """Everything that a figure rule writes."""
    return {extension: f"{LAYOUT.figure(name)}.{extension}" for extension in ("pdf", "svg", "html")}


if "fig1" in STUDY.figures:

    rule fig1:
        input:
            notebook="notebooks/fig1.ipynb",
            results=LAYOUT.table("results"),
            code=PLOTTING,
        output:
            pdf=report(f"{LAYOUT.figure('fig1')}.pdf", caption="../report/fig1.rst", category="Figures"),
            svg=report(f"{LAYOUT.figure('fig1')}.svg", caption="../report/fig1.rst", category="Figures"),
            html=f"{LAYOUT.figure('fig1')}.html",
        log:
            log_of("figures/fig1"),
        benchmark:
            benchmark_of("figures/fig1")
        params:
            parameters=parameters(results=LAYOUT.table("results")),
            out=LAYOUT.figure("fig1"),
        threads: 1
        resources:
            mem_mb=2000,
            runtime=10,
        message:
            "Fig. 1: error against removed parameters"
        shell:
            "sharpminima figure {input.notebook} --parameters {params.parameters:q} --out {params.out} > {log} 2>&1"


if "fig2" in STUDY.figures:

    rule fig2:
        input:
            notebook="notebooks/fig2.ipynb",
            surface=analyses_of_focus("surface", STUDY.seeds[:1]),
            hessian=analyses_of_focus("hessian", STUDY.seeds),
            code=PLOTTING,
        output:
            pdf=report(f"{LAYOUT.figure('fig2')}.pdf", caption="../report/fig2.rst", category="Figures"),
            svg=report(f"{LAYOUT.figure('fig2')}.svg", caption="../report/fig2.rst", category="Figures"),
            html=f"{LAYOUT.figure('fig2')}.html",
        log:
            log_of("figures/fig2"),
        benchmark:
            benchmark_of("figures/fig2")
        params:
            parameters=parameters(
                surface=analyses_of_focus("surface", STUDY.seeds[:1])[0],
                hessian=analyses_of_focus("hessian", STUDY.seeds),
            ),
            out=LAYOUT.figure("fig2"),
        threads: 1
        resources:
            mem_mb=2000,
            runtime=10,
        message:
            "Fig. 2: training loss on the plane, and Hessian eigenvalues"
        shell:
            "sharpminima figure {input.notebook} --parameters {params.parameters:q} --out {params.out} > {log} 2>&1"


for NAME, TITLE in (("fig3", "PSP norm"), ("fig4", "PSP-entropy of first and second order")):
    if NAME in STUDY.figures:

        rule:
            name:
                NAME
            input:
                notebook=f"notebooks/{NAME}.ipynb",
                surface=analyses_of_focus("surface", STUDY.seeds[:1]),
                code=PLOTTING,
            output:
                pdf=report(f"{LAYOUT.figure(NAME)}.pdf", caption=f"../report/{NAME}.rst", category="Figures"),
                svg=report(f"{LAYOUT.figure(NAME)}.svg", caption=f"../report/{NAME}.rst", category="Figures"),
                html=f"{LAYOUT.figure(NAME)}.html",
            log:
                log_of(f"figures/{NAME}"),
            benchmark:
                benchmark_of(f"figures/{NAME}")
            params:
                parameters=parameters(surface=analyses_of_focus("surface", STUDY.seeds[:1])[0]),
                out=LAYOUT.figure(NAME),
            threads: 1
            resources:
                mem_mb=2000,
                runtime=10,
            message:
                f"Fig. {NAME[-1]}: {TITLE} on the plane"
            shell:
                "sharpminima figure {input.notebook} --parameters {params.parameters:q} --out {params.out}"
                " > {log} 2>&1"
