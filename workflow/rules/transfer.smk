# Trained nets on another dataset. Dense nets lie apart from a method's cells: hence two rules of one command.
for RULE, SOURCE, NAME in (
    ("transfer", LAYOUT.cell(), "{method}/level-{level}/{strategy}"),
    ("transfer_dense", LAYOUT.dense(), "dense"),
):

    rule:
        name:
            RULE
        input:
            data=LAYOUT.prepared("{to}"),
            nets=SOURCE,
        output:
            table=LAYOUT.transfer(strategy="dense" if RULE == "transfer_dense" else "{strategy}"),
        log:
            log_of(f"transfer/{{dataset}}/{{model}}/{NAME}/seed-{{seed}}-to-{{to}}"),
        benchmark:
            benchmark_of(f"transfer/{{dataset}}/{{model}}/{NAME}/seed-{{seed}}-to-{{to}}")
        group:
            jobs.TRANSFER_GROUP
        conda:
            "../envs/sharpminima.yaml"
        threads: CONFIG.threads
        resources:
            gpu=GPU,
            mem_mb=mem_mb("transfer"),
            runtime=minutes("transfer"),
        params:
            settings=transfer_settings,
            runtime=transfer_runtime,
        message:
            f"{RULE}: {{wildcards.model}} from {{wildcards.dataset}} to {{wildcards.to}}, seed {{wildcards.seed}}"
        shell:
            command(
                "sharpminima transfer --data {input.data} --source {input.nets} --settings {params.settings:q}"
                " {params.runtime} --out {output.table} > {log} 2>&1"
            )
