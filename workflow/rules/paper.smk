rule numbers:
    input:
        results=LAYOUT.table("results"),
        psp=LAYOUT.analysis_tables("psp"),
        hessian=LAYOUT.analysis_tables("hessian"),
        surface=LAYOUT.analysis_tables("surface"),
        barrier=LAYOUT.analysis_tables("barrier"),
        line=LAYOUT.analysis_tables("line"),
        transfer=LAYOUT.transfer_tables(),
        claims=CLAIMS,
        code=NUMBERS_CODE,
    output:
        numbers=LAYOUT.numbers(),
        metrics=LAYOUT.metrics(),
    log:
        log_of("numbers"),
    benchmark:
        benchmark_of("numbers")
    localrule: True
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=mem_mb("draw"),
        runtime=minutes("draw"),
    params:
        psp=options("psp"),
        hessian=options("hessian"),
        surface=options("surface"),
        barrier=options("barrier"),
        line=options("line"),
        transfer=lambda wildcards, input: options("transfer")(wildcards, input) + as_options(used_by_numbers(STUDY)),
        # The paper states the settings of all that it shows.
        study=verbatim(json.dumps(LAYOUT.facts(), sort_keys=True)),
    message:
        "numbers of the paper"
    shell:
        command(
            "sharpminima numbers --results {input.results} {params.psp} {params.hessian} {params.surface} {params.barrier}"
            " {params.line} {params.transfer}"
            " --claims {input.claims} --study {params.study:q} --metrics {output.metrics} --out {output.numbers} > {log} 2>&1"
        )


rule paper:
    input:
        source=PAPER_SOURCES[0],
        siblings=PAPER_SOURCES[1:],
        numbers=LAYOUT.numbers(),
        figure=[f"{LAYOUT.figure(name)}.svg" for name in STUDY.figures],
        provenance=[LAYOUT.provenance(name) for name in STUDY.figures],
        code=PAPER_CODE,
    output:
        pdf=report(LAYOUT.paper(), caption="../report/paper.rst", category="Paper"),
    log:
        log_of("paper"),
    benchmark:
        benchmark_of("paper")
    localrule: True
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=mem_mb("draw"),
        runtime=minutes("draw"),
    params:
        figure=options("figure"),
        provenance=options("provenance"),
    message:
        "the paper's PDF"
    shell:
        command(
            "sharpminima paper {input.source} --numbers {input.numbers} {params.figure} {params.provenance}"
            " --out {output.pdf} > {log} 2>&1"
        )
