rule numbers:
    input:
        results=LAYOUT.table("results"),
        psp=analysis_tables("psp"),
        hessian=analysis_tables("hessian"),
        surface=mapped_surface(),
        code=[f"src/sharpminima/figures/{module}.py" for module in ("tables", "numbers", "statements")],
    output:
        numbers=f"{LAYOUT.root}/tables/numbers.json",
    log:
        log_of("numbers"),
    benchmark:
        benchmark_of("numbers")
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        psp=options("psp"),
        hessian=options("hessian"),
        surface=options("surface"),
        # The paper states the settings of all that it shows.
        study=json.dumps({"name": LAYOUT.name, **STUDY.model_dump(mode="json", by_alias=True)}, sort_keys=True),
    message:
        "numbers of the paper"
    shell:
        "sharpminima numbers --results {input.results} {params.psp} {params.hessian} {params.surface}"
        " --study {params.study:q} --out {output.numbers} > {log} 2>&1"


rule paper:
    input:
        source="paper/paper.typ",
        siblings=["paper/format.typ", "paper/references.bib"],
        numbers=f"{LAYOUT.root}/tables/numbers.json",
        figure=[f"{LAYOUT.figure(name)}.svg" for name in STUDY.figures],
        code="src/sharpminima/figures/paper.py",
    output:
        pdf=report("paper/build/paper.pdf", caption="../report/paper.rst", category="Paper"),
    log:
        log_of("paper"),
    benchmark:
        benchmark_of("paper")
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        figure=options("figure"),
    message:
        "the paper's PDF"
    shell:
        "sharpminima paper {input.source} --numbers {input.numbers} {params.figure} --out {output.pdf} > {log} 2>&1"
