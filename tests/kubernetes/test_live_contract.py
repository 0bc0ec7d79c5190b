"""The contract suite of all drivers, on Kubernetes. Its fixture `harness` is the one of this folder."""

from tests.drivers.test_contract import *  # noqa: F403
