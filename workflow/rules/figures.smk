# Figures are notebooks executed by papermill; the plotting code they share lies in src. One rule a figure, so that
# `snakemake -- fig1` asks for it by name.
for NAME in STUDY.figures:

    rule:
        name:
            NAME
        input:
            notebook=FIGURES[NAME].notebook,
            tables=LAYOUT.tables_of(NAME),
            code=LAYOUT.figure_code(NAME),
        output:
            pdf=report(f"{LAYOUT.figure(NAME)}.pdf", caption=caption_of(NAME), category="Figures"),
            svg=report(f"{LAYOUT.figure(NAME)}.svg", caption=caption_of(NAME), category="Figures"),
            html=f"{LAYOUT.figure(NAME)}.html",
        log:
            log_of(f"figures/{NAME}"),
        benchmark:
            benchmark_of(f"figures/{NAME}")
        group:
            jobs.FIGURES_GROUP
        conda:
            "../envs/sharpminima.yaml"
        threads: 1
        resources:
            gpu=0,
            mem_mb=mem_mb("draw"),
            runtime=minutes("draw"),
        params:
            # Paths only, so that a figure depends on nothing else.
            parameters=verbatim(json.dumps(LAYOUT.figure_tables(NAME), sort_keys=True)),
            out=drawn(NAME),
        message:
            f"figure {NAME}"
        shell:
            command(
                "sharpminima figure {input.notebook} --parameters {params.parameters:q} --out {params.out} > {log} 2>&1"
            )


rule provenance:
    input:
        LAYOUT.provenance_job().inputs,
    output:
        LAYOUT.provenance_job().outputs,
    log:
        log_of("provenance"),
    benchmark:
        benchmark_of("provenance")
    localrule: True
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=mem_mb("draw"),
        runtime=minutes("draw"),
    params:
        figures=" ".join(STUDY.figures),
        config=verbatim(CONFIG_TEXT),
    message:
        "what each figure comes from"
    shell:
        command("sharpminima provenance {params.figures} --config {params.config:q} --write > {log} 2>&1")
