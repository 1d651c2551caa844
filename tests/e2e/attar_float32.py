"""``python -m attar`` where "auto" is float32, as it is in the process of the tests.

Otherwise a machine with native bfloat16 has other numbers in a process of its own, and other answers in the cache.
"""

from attar.cli.main import main
from attar.nets import hardware

if __name__ == "__main__":
    hardware._cpu_flags = set
    main()
