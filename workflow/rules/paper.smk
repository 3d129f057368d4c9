rule numbers:
    input:
        results=LAYOUT.table("results"),
        measured=[path for tables in LAYOUT.summarised_tables().values() for path in tables],
        transfer=LAYOUT.transfer_tables(),
        claims=STUDY.ledger,
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
        measured=" ".join(
            f"--table {name}={quote(path)}" for name, tables in LAYOUT.summarised_tables().items() for path in tables
        ),
        transfer=lambda wildcards, input: options("transfer")(wildcards, input) + as_options(used_by_numbers(STUDY)),
        # The paper states the settings of all that it shows.
        study=verbatim(json.dumps(LAYOUT.facts(), sort_keys=True)),
    message:
        "numbers of the paper"
    shell:
        command(
            "sharpminima numbers --results {input.results} {params.measured} {params.transfer}"
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


rule explore:
    input:
        LAYOUT.explore_job().inputs,
    output:
        html=report(LAYOUT.explorer(), caption="../report/explore.rst", category="Explorer"),
    log:
        log_of("explore"),
    benchmark:
        benchmark_of("explore")
    localrule: True
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=mem_mb("draw"),
        runtime=minutes("draw"),
    params:
        study=CONFIG.study,
        config=CONFIG_TEXT,
    message:
        "the page of the study"
    shell:
        command("sharpminima explore {params.study:q} --config {params.config:q} > {log} 2>&1")
