"""`scripts/gpu_check`: all checks and measurements that need a GPU, in one command."""
