"""Tries a device of CUDA's, as a program of its own: it loads the runtime, and who asks need not.

    python -m model_tools.device_trial cuda:0

ends with 0 where the device works, and else with one line on stderr that says what is in the way.
"""

import sys

from server.model.cuda import cuda_obstacle
from server.options.values import device


def main() -> None:
    told = device(sys.argv[1])
    if told and (in_the_way := cuda_obstacle(told)):
        sys.exit(in_the_way)


if __name__ == "__main__":
    main()
