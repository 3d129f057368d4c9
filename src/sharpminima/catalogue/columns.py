"""The columns of the pipeline's tables, units in the names; steps write them, figures read them."""

KEY_COLUMNS = ["dataset", "model", "method", "strategy", "level", "replica", "seed"]
PSP_COLUMNS = [
    *KEY_COLUMNS,
    "sparsity",
    "part",
    "images",
    "layer",
    "class",
    "neurons",
    "live_neurons",
    "always_on_share",
    "always_off_share",
    "psp_norm",
    "psp_norm_with_output",
    "entropy_1_bits",
    "entropy_1_live_bits",
    "entropy_2_joint_bits",
    "entropy_2_joint_live_bits",
    "entropy_2_agreement_bits",
]
NEURON_COLUMNS = [*KEY_COLUMNS, "sparsity", "part", "images", "layer", "neuron", "entropy_1_bits_by_class"]
HESSIAN_COLUMNS = [
    *KEY_COLUMNS,
    "sparsity",
    "part",
    "images",
    "space",
    "dimension",
    "index",
    "eigenvalue",
    "residual",
    "converged",
]
_PAIR_COLUMNS = [column for column in KEY_COLUMNS if column != "strategy"]  # of G and 1-S together
SURFACE_COLUMNS = [
    *_PAIR_COLUMNS,
    "sparsity",
    "part",
    "images",
    "definition",
    "point",
    "x",
    "y",
    "distance",
    "loss_nats",
    "error_percent",
    "psp_norm",
    "psp_entropy_1_bits",
    "psp_entropy_2_bits",
]
LINE_COLUMNS = [
    *_PAIR_COLUMNS,
    "sparsity",
    "part",
    "images",
    "distance",
    "x",
    "space",
    "dimension",
    "index",
    "eigenvalue",
    "residual",
    "converged",
]
BARRIER_COLUMNS = [
    *_PAIR_COLUMNS,
    "sparsity",
    "part",
    "images",
    "distance",
    "x",
    "loss_nats",
    "error_percent",
    "loss_excess_nats",
    "error_excess_percent",
]
RELATIVE = "relative"  # the space of relative changes of the surviving parameters
ALL = "all"  # in place of a layer: the net's mean over its layers or neurons; of a class: the sum over classes
_NET_COLUMNS = [*KEY_COLUMNS, "represented_by_level", "reached", "collapsed"]
_OUTCOME_COLUMNS = [
    "test_error_percent",
    "test_wrong",
    "test_images",
    "training_loss_nats",
    "validation_loss_nats",
    "test_loss_nats",
]
TRANSFER_COLUMNS = [
    *KEY_COLUMNS,
    "sparsity",
    "to",
    "to_sha256",
    "mode",
    "features",
    "live_features",
    *_OUTCOME_COLUMNS,
    "best_epoch",
    "epochs",
]
RESULT_COLUMNS = [
    *_NET_COLUMNS,
    "sparsity",
    "sparsity_all",
    "parameters",
    "nonzero",
    "effective",
    "compression",
    "flops_dense",
    "flops_effective",
    *_OUTCOME_COLUMNS,
    "best_epoch",
    "epochs",
    "gradient_norm",
    "test_error_after_threshold_percent",
    "gradient_norm_after_threshold",
]
PUBLISHED_COLUMNS = ["strategy", "accuracy_percent", "spread_percent"]
PUBLISHED_ERROR_COLUMNS = [
    "model",
    "method",
    "source",
    "density_percent",
    "error_percent",
    "reference",
    "certainty",
]
DENSITY_COLUMNS = [*KEY_COLUMNS, "parameter", "density"]
MEASURE_COLUMNS = [
    *_NET_COLUMNS,
    "parameters",
    "prunable",
    "kernels",
    "nonzero",
    "nonzero_kernels",
    "effective",
    "stored_bytes",
    "density_percent",
    "kernel_density_percent",
    "compression",
    "flops_dense",
    "flops_nonzero",
    "flops_effective",
    *_OUTCOME_COLUMNS,
    "final_epochs_at_most",
    "epochs",
    "job_nets",
    "job_wall_s",
    "job_cpu_s",
    "job_gpu_s",
    "peak_mb",
    "gpu_peak_mb",
    "device",
]
"""All that methods report, each net a row. Densities: non-zero share of all parameters, and of the kernels, the weights
of Linear and Conv2d. ``stored_bytes``: of the net as what it is (`sharpminima.nets.storage`).
``final_epochs_at_most`` is the budget of the last training, where a method has
one; ``epochs`` are those of all trainings behind the net.
What is named after the job was measured over it as a whole: all ``job_nets`` levels or replicas."""
RANKING_COLUMNS = [
    "dataset",
    "model",
    "level",
    "rank",
    "method",
    "reached",
    "left",
    "collapsed",
    *(f"{quantity}_{part}" for quantity in ("error", "density", "epochs") for part in ("mean", "sd", "n")),
    "error_low",
    "error_high",
]
BESIDE_PUBLISHED_COLUMNS = [
    "model",
    "method",
    "source",
    "certainty",
    "published_density_percent",
    "published_error_percent",
    "level",
    "density_mean",
    "error_mean",
    "error_sd",
    "error_n",
    "difference_points",
    "outcome",
]
AS_ASKED, SPARSER, DENSER = "as asked", "sparser", "denser"
"""What is left of a method's nets beside what their level asks for, in `RANKING_COLUMNS`."""
