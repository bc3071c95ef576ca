"""`scripts/gpu_check`: what can only be seen on a machine with a GPU, in one command."""
