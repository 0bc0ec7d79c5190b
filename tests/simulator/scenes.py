"""A small scenario to change in tests."""

from yunhe.simulator.result import to_bytes
from yunhe.simulator.run import Run
from yunhe.simulator.scenario import Scenario, load

TEXT = """\
name: three
seed: 7
start: 2026-01-05T00:00+08:00
length: 6h
rules: {operator_fee: 5%}
centres:
  - name: north
    cluster: zhangjiakou
    power_price: 0.40CNY/kWh
    pools:
      - {name: a, chip: a100-sxm-80g, cards: 16, price: 8CNY/h}
  - name: east
    place: shanghai
    pools:
      - {name: v, chip: v100-sxm2-32g, cards: 32, price: 4CNY/h}
  - name: west
    cluster: guian
    carbon: 500g/kWh
    pools:
      - {name: n, chip: ascend-910b3, cards: 64, price: 5CNY/h}
customers:
  - {name: lab, home: north, weight: 2}
  - {name: mill, home: east}
workloads:
  - name: train
    fitted: {like: venus, jobs_per_day: 800}
    ask: compute
"""


def scenario(*changes: tuple[str, str]) -> Scenario:
    """The scenario, with each first text replaced by the second; a text that is not there is a mistake of the test."""
    text = TEXT
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return load(text)


def finished(run: Run, chunk: int = 10_000) -> bytes:
    """Its result, to the last byte."""
    while run.go_on(chunk):
        pass
    return to_bytes(run.result())
