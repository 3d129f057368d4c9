rule analyse:
    input:
        data=LAYOUT.prepared(),
        gradual=LAYOUT.cell(strategy="gradual"),
        rewind=LAYOUT.cell(strategy="rewind"),
        dense=dense_net,
    output:
        table=LAYOUT.analysis(),
    log:
        log_of("{analysis}/{dataset}/{model}/{method}/level-{level}/seed-{seed}"),
    benchmark:
        benchmark_of("{analysis}/{dataset}/{model}/{method}/level-{level}/seed-{seed}")
    wildcard_constraints:
        analysis="|".join(name for name, analysis in ANALYSES.items() if not analysis.large),
    group:
        jobs.ANALYSIS_GROUP
    conda:
        "../envs/sharpminima.yaml"
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=mem_mb("analyse"),
        runtime=minutes("analyse"),
    params:
        settings=analysis_settings,
        runtime=analyse_runtime,
    message:
        "{wildcards.analysis} of {wildcards.model} on {wildcards.dataset}, level {wildcards.level}, seed {wildcards.seed}"
    shell:
        command(
            "sharpminima {wildcards.analysis} --data {input.data} --gradual {input.gradual} --rewind {input.rewind}"
            " --settings {params.settings:q} {params.runtime} --out {output.table} > {log} 2>&1"
        )


# A rule of its own, as the ending of an output cannot depend on a wildcard.
use rule analyse as analyse_large with:
    output:
        table=f"{LAYOUT.analysis()}{COMPRESSED}",
    wildcard_constraints:
        analysis="|".join(name for name, analysis in ANALYSES.items() if analysis.large),


# Local, as all that reads the whole study: seconds, and in a group Snakemake would look at each of its inputs anew
# whenever one of them is made.
rule table:
    input:
        checkpoints=LAYOUT.checkpoints(),
    output:
        results=LAYOUT.table("results"),
        density=LAYOUT.table("density"),
    log:
        log_of("table"),
    benchmark:
        benchmark_of("table")
    localrule: True
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=mem_mb("table"),
        runtime=minutes("table"),
    params:
        config=verbatim(CONFIG_TEXT),
    message:
        "table of results"
    shell:
        command(
            "sharpminima table --config {params.config:q} --out {output.results} --density {output.density} > {log} 2>&1"
        )


# What jobs took differs from run to run: no figure and no number of the paper comes from this table.
rule measures:
    input:
        checkpoints=LAYOUT.checkpoints(),
    output:
        table=LAYOUT.table("measures"),
    log:
        log_of("measures"),
    localrule: True
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=mem_mb("table"),
        runtime=minutes("table"),
    params:
        config=verbatim(CONFIG_TEXT),
    message:
        "table of all that methods report"
    shell:
        command("sharpminima measures --config {params.config:q} --out {output.table} > {log} 2>&1")


rule ranking:
    input:
        results=LAYOUT.table("results"),
        code=RANKING_CODE,
    output:
        table=LAYOUT.table("ranking"),
    log:
        log_of("ranking"),
    localrule: True
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=mem_mb("draw"),
        runtime=minutes("draw"),
    message:
        "ranking of the methods"
    shell:
        command("sharpminima ranking --results {input.results} --out {output.table} > {log} 2>&1")


rule published:
    input:
        results=LAYOUT.table("results"),
        errors=PUBLISHED_ERRORS,
        code=PUBLISHED_CODE,
    output:
        table=LAYOUT.table("published"),
    log:
        log_of("published"),
    localrule: True
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=mem_mb("draw"),
        runtime=minutes("draw"),
    message:
        "methods beside what others have published"
    shell:
        command(
            "sharpminima published --results {input.results} --errors {input.errors} --out {output.table} > {log} 2>&1"
        )


# Every table, and the numbers drawn from them.
rule analysis:
    input:
        [path for job in LAYOUT.stage_jobs("analysis") for path in job.outputs],
