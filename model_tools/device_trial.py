"""Tries a CUDA device, in a process of its own, so that the caller need not load the runtime.

    python -m model_tools.device_trial INDEX

exits with 0 if the device works, and otherwise with 1 and a line on stderr that says why not.
"""

import sys

from server.config import Device, DeviceKind
from server.model.gpu.cuda import cuda_obstacle


def main() -> None:
    sys.exit(cuda_obstacle(Device(DeviceKind.CUDA, int(sys.argv[1]))))


if __name__ == "__main__":
    main()
