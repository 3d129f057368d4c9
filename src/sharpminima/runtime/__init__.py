"""How a process runs: device, threads, GPUs, random numbers, compiled kernels, what it used."""
