"""The machine that this process runs on: how much of it the process may use, and whether CUDA works there."""
