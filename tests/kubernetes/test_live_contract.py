"""The contract suite of all drivers, and that of drivers with data, on Kubernetes.

Its fixture `harness` is the one of this folder.
"""

from tests.drivers.test_contract import *  # noqa: F403
from tests.drivers.test_data import *  # noqa: F403
