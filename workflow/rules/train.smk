rule init:
    input:
        data=LAYOUT.prepared(),
    output:
        init=LAYOUT.init(),
    log:
        log_of("init/{dataset}/{model}/seed-{seed}"),
    benchmark:
        benchmark_of("init/{dataset}/{model}/seed-{seed}")
    localrule: True
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=mem_mb("init"),
        runtime=minutes("init"),
    params:
        batchnorm=batchnorm,
    message:
        "W0 of {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        command(
            "sharpminima init --data {input.data} --model {wildcards.model} --seed {wildcards.seed}"
            "{params.batchnorm}"
            " --out {output.init} > {log} 2>&1"
        )


rule dense:
    input:
        data=LAYOUT.prepared(),
        init=LAYOUT.init(),
    output:
        checkpoint=LAYOUT.dense(),
        history=LAYOUT.dense("history.csv"),
    log:
        log_of("dense/{dataset}/{model}/seed-{seed}"),
    benchmark:
        benchmark_of("dense/{dataset}/{model}/seed-{seed}")
    group:
        jobs.DENSE_GROUP
    conda:
        "../envs/sharpminima.yaml"
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=mem_mb("dense"),
        runtime=minutes("dense"),
    params:
        settings=dense_settings,
        runtime=dense_runtime,
        out=folder_of("checkpoint"),
    message:
        "dense {wildcards.model} on {wildcards.dataset}, seed {wildcards.seed}"
    shell:
        command(
            "sharpminima dense --data {input.data} --init {input.init} --settings {params.settings:q} {params.runtime}"
            " --out {params.out} > {log} 2>&1"
        )
