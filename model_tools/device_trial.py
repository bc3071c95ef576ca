"""Tries a device of CUDA's, as a program of its own: it loads the runtime, and who asks need not.

    python -m model_tools.device_trial INDEX

ends with 0 where the device works, and else with one line on stderr that says what is in the way.
"""

import sys

from server.config import Device, DeviceKind
from server.model.gpu.cuda import cuda_obstacle


def main() -> None:
    sys.exit(cuda_obstacle(Device(DeviceKind.CUDA, int(sys.argv[1]))))


if __name__ == "__main__":
    main()
