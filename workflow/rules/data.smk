# Local: a cluster's login node has the network, its compute nodes may not.
rule prepare:
    output:
        data=LAYOUT.prepared(),
    log:
        log_of("prepare/{dataset}"),
    benchmark:
        benchmark_of("prepare/{dataset}")
    localrule: True
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=mem_mb("prepare"),
        runtime=minutes("prepare"),
    params:
        root=verbatim(f"--root {quote(CONFIG.data.root)}" if CONFIG.data.root else ""),
        split=plugged("prepare", f"--seed {STUDY.data.seed} --validation-share {STUDY.data.validation_share}"),
    message:
        "prepare {wildcards.dataset}"
    shell:
        command("sharpminima prepare {wildcards.dataset} {params.root} {params.split} --out {output.data} > {log} 2>&1")


rule data:
    input:
        [LAYOUT.prepared(dataset) for dataset in LAYOUT.datasets()],
