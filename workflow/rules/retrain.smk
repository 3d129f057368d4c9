rule retrain:
    input:
        data=LAYOUT.prepared(),
        init=LAYOUT.init(),
        pruned=LAYOUT.cell(strategy="gradual"),
    output:
        checkpoint=LAYOUT.cell(),
        history=LAYOUT.cell("history.csv"),
    log:
        log_of("retrain/{dataset}/{model}/{method}/level-{level}/{strategy}/seed-{seed}"),
    benchmark:
        benchmark_of("retrain/{dataset}/{model}/{method}/level-{level}/{strategy}/seed-{seed}")
    wildcard_constraints:
        strategy="(?!gradual)[a-z-]+",
    group:
        jobs.RETRAIN_GROUP
    conda:
        "../envs/sharpminima.yaml"
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=mem_mb("retrain"),
        runtime=minutes("retrain"),
    params:
        settings=dense_settings,
        replicas=replicas,
        runtime=retrain_runtime,
        out=folder_of("checkpoint"),
    message:
        "{wildcards.strategy} {wildcards.model} on {wildcards.dataset}, level {wildcards.level}, seed {wildcards.seed}"
    shell:
        command(
            "sharpminima retrain --data {input.data} --init {input.init} --pruned {input.pruned}"
            " --strategy {wildcards.strategy} --replicas {params.replicas} --settings {params.settings:q}"
            " {params.runtime} --out {params.out} > {log} 2>&1"
        )


# Everything that training makes.
rule runs:
    input:
        [path for job in LAYOUT.stage_jobs("runs") for path in job.outputs],
