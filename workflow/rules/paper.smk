def analysis_tables(name):
    """Tables of one analysis, of every run that has it."""
    return [
        f"{LAYOUT.analysis(**key, seed=seed)}/{name}.csv" for _, _, key in LAYOUT.analyses() for seed in STUDY.seeds
    ]


rule numbers:
    input:
        results=LAYOUT.table("results"),
        psp=analysis_tables("psp"),
        hessian=analysis_tables("hessian"),
        surface=analysis_tables("surface") if STUDY.focus else [],
    output:
        numbers=f"{LAYOUT.root}/tables/numbers.json",
    log:
        log_of("numbers"),
    benchmark:
        benchmark_of("numbers")
    params:
        psp=lambda wildcards, input: " ".join(f"--psp {path}" for path in input.psp),
        hessian=lambda wildcards, input: " ".join(f"--hessian {path}" for path in input.hessian),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    message:
        "numbers of the paper"
    shell:
        "sharpminima numbers --results {input.results} {params.psp} {params.hessian}"
        " --out {output.numbers} > {log} 2>&1"
