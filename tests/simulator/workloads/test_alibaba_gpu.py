"""The public lists' shape: what is read, and what is refused with line and field."""

import io

import pytest

from yunhe.core.errors import InvalidInput, TooLarge
from yunhe.core.placement.packing.values import Need, Node
from yunhe.simulator.workloads.alibaba_gpu import read_nodes, read_tasks

NODES = "sn,cpu_milli,memory_mib,gpu,model\n"
TASKS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
)


def test_nodes_with_and_without_cards() -> None:
    found = list(read_nodes(io.StringIO(NODES + "n-1,64000,2,2,P100\nn-2,32000,1,0,\n"), "nodes"))
    assert found == [Node("n-1", 64_000, 2 * 2**20, 2, "P100"), Node("n-2", 32_000, 2**20)]


def test_tasks_of_every_kind() -> None:
    lines = ("a,6000,1,1,460,A|B,LS,Running,5,9,5", "b,100,0,8,1000,,BE,Running,0,1,0", "c,500,3,0,0,,LS,Pending,7,,")
    found = list(read_tasks(io.StringIO(TASKS + "\n".join(lines)), "tasks"))
    assert [task.need for task in found] == [
        Need(6_000, 2**20, 1, 460, frozenset({"A", "B"})),
        Need(100, 0, 8, 1_000),
        Need(500, 3 * 2**20),
    ]
    assert [(task.name, task.created_s, task.ended_s) for task in found] == [("a", 5, 9), ("b", 0, 1), ("c", 7, None)]


def test_lists_without_models_and_times_are_read() -> None:
    found = list(read_tasks(io.StringIO("name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1,1,1,1000\n"), "tasks"))
    assert found[0].need == Need(1, 2**20, 1, 1_000)
    assert found[0].created_s is None


@pytest.mark.parametrize(
    ("line", "field", "said"),
    [
        ("a,-1,1,1,460,,LS,Running,0,1,0", "cpu_milli", "negative"),
        ("a,1,1,1000000000,1000,,LS,Running,0,1,0", "num_gpu", "more than"),
        ("a,1,1,1,1001,,LS,Running,0,1,0", "gpu_milli", "more than 1000"),
        ("a,1,1,2,500,,LS,Running,0,1,0", "gpu_milli", "all 1000"),
        ("a,1,1,0,500,,LS,Running,0,1,0", "gpu_milli", "without cards"),
        ("a,1,1,1,500,,LS,Running,-5,1,0", "creation_time", "negative"),
        ("a,1,1,1,500,,LS,Running,9,1,0", "deletion_time", "before it begins"),
        ("a,nan,1,1,500,,LS,Running,0,1,0", "cpu_milli", "no whole number"),
        ("a,1e3,1,1,500,,LS,Running,0,1,0", "cpu_milli", "no whole number"),
        ("a,,1,1,500,,LS,Running,0,1,0", "cpu_milli", "missing"),
        (",1,1,1,500,,LS,Running,0,1,0", "name", "missing"),
        ("a,1,1", "num_gpu", "missing"),
        ("a,1,1,1,500,,LS,Running,0,1,0,surplus", "gpu_milli", "more values"),
        (f"{'a' * 300},1,1,1,500,,LS,Running,0,1,0", "name", "characters"),
    ],
)
def test_a_wrong_line_is_refused_with_line_and_field(line: str, field: str, said: str) -> None:
    file = io.StringIO(TASKS + "good,1,1,1,500,,LS,Running,0,1,0\n" + line + "\n")
    with pytest.raises((InvalidInput, TooLarge), match="tasks line 3") as caught:
        list(read_tasks(file, "tasks"))
    assert caught.value.field == field
    assert said in str(caught.value)


def test_missing_columns_are_named() -> None:
    with pytest.raises(InvalidInput, match="nodes line 1") as caught:
        list(read_nodes(io.StringIO("sn,cpu_milli,memory_mib,model\nn,1,1,T4\n"), "nodes"))
    assert caught.value.field == "gpu"
    with pytest.raises(InvalidInput, match="tasks line 1"):
        list(read_tasks(io.StringIO(""), "tasks"))


def test_a_node_with_cards_names_their_model() -> None:
    with pytest.raises(InvalidInput, match="nodes line 2"):
        list(read_nodes(io.StringIO(NODES + "n,1,1,2,\n"), "nodes"))


def test_a_quote_that_never_ends_is_refused() -> None:
    with pytest.raises(InvalidInput, match="tasks line 2: unexpected end of data"):
        list(read_tasks(io.StringIO(TASKS + '"a,1,1,1,500\n'), "tasks"))
