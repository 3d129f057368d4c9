# A run of a method has one output a level, and levels differ between experiments: hence one rule an experiment.
for experiment in STUDY.experiments:
    KEY = experiment_key(experiment)

    rule:
        name:
            "prune_" + re.sub(r"\W", "_", "_".join(KEY.values()))
        input:
            data=LAYOUT.prepared(KEY["dataset"]),
            init=LAYOUT.init(**KEY),
        output:
            checkpoints=[LAYOUT.cell(**KEY, level=name, strategy="gradual") for name in LAYOUT.level_names(experiment)],
            history=LAYOUT.run_file("history.csv", **KEY),
            events=LAYOUT.run_file("events.json", **KEY),
        log:
            log_of(f"prune/{'/'.join(KEY.values())}/seed-{{seed}}"),
        benchmark:
            benchmark_of(f"prune/{'/'.join(KEY.values())}/seed-{{seed}}")
        group:
            jobs.PRUNE_GROUP.format(**KEY)
        conda:
            "../envs/sharpminima.yaml"
        threads: CONFIG.threads
        resources:
            gpu=GPU,
            mem_mb=mem_mb("prune", **KEY),
            runtime=minutes("prune", **KEY),
        params:
            settings=verbatim(experiment.method.model_dump_json(by_alias=True)),
            levels=" ".join(f"--level {level}" for level in experiment.levels),
            runtime=prune_runtime(experiment),
            out=folder_of("history", above=2),
        message:
            f"{KEY['method']} {KEY['model']} on {KEY['dataset']}, seed {{wildcards.seed}}"
        shell:
            command(
                "sharpminima prune --data {input.data} --init {input.init} --settings {params.settings:q} {params.levels}"
                " {params.runtime} --out {params.out} > {log} 2>&1"
            )
