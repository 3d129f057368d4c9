"""The steps of the pipeline: each reads files, calls the science, and writes files; `cli` wraps each as a command."""
