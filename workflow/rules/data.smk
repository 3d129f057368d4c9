rule prepare:
    output:
        data=LAYOUT.prepared(),
    log:
        log_of("prepare/{dataset}"),
    benchmark:
        benchmark_of("prepare/{dataset}")
    conda:
        "../envs/sharpminima.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        root=f"--root {CONFIG.data.root}" if CONFIG.data.root else "",
        split=f"--seed {STUDY.data.seed} --validation-share {STUDY.data.validation_share}",
    message:
        "prepare {wildcards.dataset}"
    shell:
        "sharpminima prepare {wildcards.dataset} {params.root} {params.split} --out {output.data} > {log} 2>&1"


rule data:
    input:
        [LAYOUT.prepared(dataset) for dataset in LAYOUT.datasets()],
