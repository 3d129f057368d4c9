def replicas(wildcards):
    return LAYOUT.experiment(*wildcards[:3]).strategies[wildcards.strategy].replicas


rule retrain:
    input:
        data=LAYOUT.prepared(),
        init=LAYOUT.init(),
        pruned=LAYOUT.checkpoint(strategy="gradual"),
    output:
        checkpoint=LAYOUT.checkpoint(),
        history=LAYOUT.cell() + "/history.csv",
    wildcard_constraints:
        strategy="(?!gradual)[a-z-]+",
    log:
        log_of("retrain/{dataset}/{model}/{method}/level-{level}/{strategy}/seed-{seed}"),
    benchmark:
        benchmark_of("retrain/{dataset}/{model}/{method}/level-{level}/{strategy}/seed-{seed}")
    params:
        settings=dense_settings,
        replicas=replicas,
        runtime=RUNTIME,
        out=LAYOUT.cell(),
    threads: CONFIG.threads
    resources:
        gpu=GPU,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: (60 + 60 * replicas(wildcards)) * attempt,
    message:
        "{wildcards.strategy} {wildcards.model} on {wildcards.dataset}, level {wildcards.level}, seed {wildcards.seed}"
    shell:
        "sharpminima retrain --data {input.data} --init {input.init} --pruned {input.pruned}"
        " --strategy {wildcards.strategy} --replicas {params.replicas} --settings {params.settings:q}"
        " {params.runtime} --out {params.out} > {log} 2>&1"
