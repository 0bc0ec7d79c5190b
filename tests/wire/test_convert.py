"""From an order's text to core values: what is meant, and for every slip the exact field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from yunhe.core.demand import (
    AS_LONG_AS_IT_MAY,
    Compute,
    LatencyBound,
    LatencyKind,
    Precision,
    Preference,
    Requirement,
    Shape,
    Work,
)
from yunhe.core.errors import InvalidInput, TooLarge, UnknownField, YunheError
from yunhe.wire.api import OrderSpec
from yunhe.wire.convert import command_for, to_shape
from yunhe.wire.invalid import from_errors, from_validation_error
from yunhe.wire.link import Sync
from yunhe.wire.order_yaml import load_order_yaml

NOW = 1_800_000_000_000  # 2027-01-15T08:00:00Z
PLACES = {name: name for name in ("shanghai", "beijing", "guangzhou")} | {"上海": "shanghai"}
RUN = {"command": ["python3", "job.py"]}


def shape(**fields: object) -> Shape:
    return to_shape(OrderSpec.model_validate({"run": RUN, **fields}), NOW, PLACES)


def needs(**fields: object) -> Requirement:
    return shape(requirement=fields).requirement


def test_a_whole_order() -> None:
    got = shape(
        requirement={
            "compute": "0.05TFLOPS@fp64",
            "slots": 2,
            "memory": "2GiB",
            "latency": ["20ms:shanghai", {"place": "Beijing", "one_way": "9ms"}],
            "bandwidth": "10Gbps",
            "data": {"at": "guangzhou", "size": "3GB"},
            "residency": ["Hebei"],
            "tier": 1,
            "max_carbon": "600g/kWh",
            "sites": ["site-1"],
        },
        duration="1h30m",
        deadline="6h",
        budget="2CNY",
        preference="carbon",
        array=20,
    )
    assert got.requirement == Requirement(
        compute=Compute(5 * 10**10, Precision.FP64),
        slots=2,
        memory_bytes=2 * 2**30,
        latency=(
            LatencyBound("shanghai", 20_000, LatencyKind.RTT),
            LatencyBound("beijing", 9_000, LatencyKind.ONE_WAY),
        ),
        bandwidth_bps=10**10,
        data_at="guangzhou",
        data_bytes=3 * 10**9,
        residency=frozenset({"Hebei"}),
        tier=1,
        max_carbon_g_per_kwh=600,
        sites=frozenset({"site-1"}),
    )
    terms = got.terms
    assert (terms.run_limit_ms, terms.deadline_ms) == (5_400_000, NOW + 21_600_000)
    assert (terms.budget_microcny, terms.preference, terms.array) == (2_000_000, Preference.CARBON, 20)


def test_equal_orders_are_one_class() -> None:
    assert hash(shape(requirement={"cores": 1})) == hash(shape(requirement={"cores": 1.0}))


def test_the_size_has_a_default() -> None:
    assert needs().cores_milli == 1_000
    assert needs(cores=0.5).cores_milli == 500
    assert needs(cores=0.0015).cores_milli == 2
    assert needs(chip="h100-sxm").cards == 1
    only_cuda = to_shape(OrderSpec.model_validate({"run": {"stacks": {"cuda": ["a"]}}}), NOW, PLACES)
    assert only_cuda.requirement.cards == 1
    assert only_cuda.requirement.stacks == frozenset({"cuda"})


def test_work_with_a_deadline() -> None:
    got = shape(requirement={"work": "3EFLOP@bf16"}, deadline="2027-01-16T08:00:00+08:00")
    assert got.requirement.work == Work(3 * 10**18, Precision.BF16)
    assert got.terms.deadline_ms == NOW + 16 * 3_600_000


def test_commands_by_stack() -> None:
    spec = OrderSpec.model_validate({"run": {"command": ["a"], "stacks": {"cuda": ["b", "c"]}}})
    assert to_shape(spec, NOW, PLACES).requirement.stacks == frozenset({"cpu", "cuda"})
    assert command_for(spec, "cpu") == ("a",)
    assert command_for(spec, "cuda") == ("b", "c")
    with pytest.raises(InvalidInput) as caught:
        command_for(spec, "cann")
    assert caught.value.field == "run.stacks"


def test_a_place_may_be_named_in_chinese() -> None:
    spec: dict[str, object] = {"latency": ["20ms:上海", {"place": "上海", "one_way": "9ms"}], "data": {"at": "上海"}}
    wanted = shape(requirement=spec).requirement
    assert [bound.place for bound in wanted.latency] == ["shanghai", "shanghai"]
    assert wanted.data_at == "shanghai"


# (fields of the order, field of the error, what it says)
BAD: list[tuple[dict[str, object], str, str]] = [
    ({"run": {}}, "run.command", "required"),
    ({"run": {"command": [" "]}}, "run.command[0]", "empty"),
    ({"run": {"command": ["a", "b\0"]}}, "run.command[1]", "NUL"),
    ({"run": {"command": ["a"], "env": {"X": "\0"}}}, "run.env.X", "NUL"),
    ({"run": {"command": ["a"], "files": {"x/y": "\0"}}}, 'run.files["x/y"]', "NUL"),
    ({"run": {"command": ["a"], "stacks": {"cpu": ["a"]}}}, "run.stacks.cpu", "one of them"),
    ({"run": {"stacks": {"cdua": ["a"]}}}, "run.stacks", "did you mean 'cuda'"),
    ({"run": {"stacks": {"gpu7": ["a"]}}}, "run.stacks", "known are cann, corex, cpu, cuda"),
    ({"requirement": {"cores": 0.0005}}, "requirement.cores", "0.001"),
    ({"requirement": {"cores": 2, "cards": 1}}, "requirement", "cores and cards"),
    ({"requirement": {"compute": "20PFLOPS"}}, "requirement.compute", "precision"),
    ({"requirement": {"work": "3EFLOP@bf16"}}, "deadline", "work needs a deadline"),
    ({"requirement": {"memory": "-2GiB"}}, "requirement.memory", "negative"),
    ({"requirement": {"card_memory": "80"}}, "requirement.card_memory", "no unit"),
    ({"requirement": {"latency": "20ms"}}, "requirement.latency", "place"),
    (
        {"requirement": {"latency": ["20ms:beijing", "5ms:shanghia"]}},
        "requirement.latency[1]",
        "did you mean 'shanghai'",
    ),
    ({"requirement": {"latency": {"place": "atlantis", "rtt": "1ms"}}}, "requirement.latency.place", "known are"),
    ({"requirement": {"latency": [{"place": "beijing"}]}}, "requirement.latency[0]", "exactly one"),
    ({"requirement": {"latency": [{"place": "beijing", "rtt": "x"}]}}, "requirement.latency[0].rtt", "number"),
    ({"requirement": {"latency": {"place": "beijing", "rtt": "1ms", "one_way": "1ms"}}}, "requirement.latency", "one"),
    ({"requirement": {"bandwidth": "1GB/s"}}, "requirement.bandwidth", "bits"),
    ({"requirement": {"data": {"at": "shangai"}}}, "requirement.data.at", "did you mean 'shanghai'"),
    ({"requirement": {"data": {"at": "beijing", "size": "2"}}}, "requirement.data.size", "no unit"),
    ({"requirement": {"max_carbon": "400"}}, "requirement.max_carbon", "no unit"),
    ({"duration": "31d"}, "duration", "longest run, 30d"),
    ({"duration": "soon"}, "duration", "number"),
    ({"deadline": "2020-01-01T00:00:00Z"}, "deadline", "in the past"),
    ({"deadline": "2027-02-01T00:00:00"}, "deadline", "no time zone"),
    ({"deadline": "2027-02-31T00:00:00Z"}, "deadline", "not an ISO 8601"),
    ({"deadline": "2040-01-01T00:00:00Z"}, "deadline", "366 days"),
    ({"deadline": "tomorrow"}, "deadline", "number"),
    ({"budget": "2"}, "budget", "no unit"),
    ({"budget": "0.0000001CNY"}, "budget", "6 decimals"),
    ({"array": 10_000, "requirement": {"slots": 11}}, "array", "110000"),
]


@pytest.mark.parametrize(("fields", "field", "said"), BAD, ids=[f"{field}-{said}" for _, field, said in BAD])
def test_every_slip_names_its_field(fields: dict[str, object], field: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        shape(**fields)
    assert caught.value.field == field
    assert said in str(caught.value)


def test_files_are_bounded() -> None:
    with pytest.raises(TooLarge) as caught:
        shape(run={"command": ["a"], "files": {"a": "x" * 600_000, "b": "é" * 300_000}})
    assert caught.value.field == "run.files"


# --- what the model itself refuses --------------------------------------------------------------------------------


def refused(value: object) -> YunheError:
    with pytest.raises(ValidationError) as caught:
        OrderSpec.model_validate(value)
    return from_validation_error(caught.value)


@pytest.mark.parametrize(
    ("value", "field", "hint"),
    [
        ({"run": RUN, "deadlne": "6h"}, "deadlne", "did you mean 'deadline'?"),
        ({"run": RUN, "requirement": {"coers": 1}}, "requirement.coers", "did you mean 'cores'?"),
        ({"run": RUN, "cores": 1}, "cores", "it belongs under 'requirement'"),
        ({"run": RUN, "cpu": 1}, "cpu", "did you mean 'cores' under 'requirement'?"),
        ({"run": RUN, "requirement": {"gpus": 1}}, "requirement.gpus", "did you mean 'cards'?"),
        ({"run": RUN, "requirement": {"RAM": "1GiB"}}, "requirement.RAM", "did you mean 'memory'?"),
        ({"run": RUN, "command": ["a"]}, "command", "it belongs under 'run'"),
        ({"run": {**RUN, "zzz": 1}}, "run.zzz", "known are "),
        (
            {"run": RUN, "requirement": {"latency": [{"place": "x", "rrt": "1ms"}]}},
            "requirement.latency[0].rrt",
            "did you mean 'rtt'?",
        ),
        ({"run": RUN, "requirement": {"latency": {"plce": "x"}}}, "requirement.latency.plce", "did you mean 'place'?"),
    ],
)
def test_unknown_fields_are_named_with_what_was_meant(value: object, field: str, hint: str) -> None:
    error = refused(value)
    assert type(error) is UnknownField
    assert error.field == field and (error.hint or "").startswith(hint)


@pytest.mark.parametrize(
    ("value", "field", "said"),
    [
        ({}, "run", "is required"),
        ([], None, "must be a mapping"),
        ({"run": RUN, "requirement": {"cores": "nan"}}, "requirement.cores", "finite number"),
        ({"run": RUN, "requirement": {"cores": -1}}, "requirement.cores", "greater than 0"),
        ({"run": RUN, "requirement": {"latency": 20}}, "requirement.latency", "20ms:shanghai"),
        (
            {"run": RUN, "requirement": {"latency": [{"place": "x", "rtt": 5}]}},
            "requirement.latency[0].rtt",
            "its unit",
        ),
        ({"run": {"command": "python3 job.py"}}, "run.command", "[python3, job.py]"),
        ({"run": {"command": ["a", 3]}}, "run.command[1]", "in quotes"),
        ({"run": {"command": ["a"], "files": {"../x": ""}}}, 'run.files["../x"]', "without '..'"),
        ({"run": {"command": ["a"], "env": {"A-B": ""}}}, "run.env.A-B", "pattern"),
        ({"run": RUN, "duration": 60}, "duration", "for example duration: 1h30m"),
        ({"run": RUN, "array": 2.5}, "array", "whole number"),
        ({"run": RUN, "array": True}, "array", "truth value"),
        ({"run": RUN, "requirement": {"cores": True}}, "requirement.cores", "truth value"),
        ({"run": RUN, "requirement": {"cards": False}}, "requirement.cards", "truth value"),
        ({"run": RUN, "name": True}, "name", "in quotes"),
        ({"run": RUN, "array": 10**9}, "array", "10000"),
        ({"run": RUN, "preference": "fast"}, "preference", "'carbon'"),
    ],
)
def test_other_slips_in_plain_words(value: object, field: str | None, said: str) -> None:
    error = refused(value)
    assert type(error) is InvalidInput
    assert error.field == field
    assert said in str(error)
    assert "Input should" not in str(error)


def test_the_tag_of_a_union_is_no_part_of_the_field() -> None:
    report = {"kind": "started", "seq": 1, "lease_id": "a", "epoch": -1, "started_utc_ms": 0}
    sync = {"site_id": "s", "epoch": 1, "poll_no": 1, "applied_seq": 0, "wait_ms": 0, "reports": [report]}
    with pytest.raises(ValidationError) as caught:
        Sync.model_validate(sync)
    assert from_validation_error(caught.value).field == "reports[0].epoch"


def test_details_of_a_web_framework_lose_their_prefix() -> None:
    details = [{"type": "extra_forbidden", "loc": ("body", "run", "comand"), "msg": "no", "input": 1}]
    error = from_errors(details, OrderSpec)
    assert (error.field, error.hint) == ("run.comand", "did you mean 'command'?")


def test_broken_json_names_no_field() -> None:
    with pytest.raises(ValidationError) as caught:
        OrderSpec.model_validate_json('{"run": ')
    assert "not valid JSON" in str(from_validation_error(caught.value))
    web = {"type": "json_invalid", "loc": ("body", 9), "msg": "JSON decode error", "ctx": {"error": "Expecting value"}}
    error = from_errors([web], OrderSpec)
    assert (error.field, error.message) == (None, "not valid JSON: Expecting value")


# --- YAML ---------------------------------------------------------------------------------------------------------

HEAD = "run: {command: [python3, job.py]}\n"


def test_an_order_in_yaml() -> None:
    spec = load_order_yaml(
        "name: first\nrun:\n  command: [python3, -c, 'print(1)']\n  env: {LEVEL: '3', ANSWER: yes}\n"
        "requirement:\n  cores: 0.5\n  latency: 20ms:shanghai\ndeadline: 2027-02-01T00:00:00Z\n"
    )
    assert spec.run.command == ("python3", "-c", "print(1)")
    assert spec.run.env == {"LEVEL": "3", "ANSWER": "yes"}
    assert spec.requirement.cores == 0.5
    assert spec.deadline == "2027-02-01T00:00:00Z"


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nrun: {command: [*b]}\n"


@pytest.mark.parametrize(
    ("text", "kind", "field", "said"),
    [
        ("", InvalidInput, None, "empty"),
        ("- a\n- b\n", InvalidInput, None, "not a mapping"),
        ("just text", InvalidInput, None, "not a mapping"),
        ("run: [", InvalidInput, None, "not valid YAML"),
        ("run:\n  command: [a]\n bad: 1\n", InvalidInput, None, "line 3"),
        (BOMB, InvalidInput, None, "anchors and aliases are not accepted (line 1)"),
        ("a: !!python/object/apply:os.system [ls]\n", InvalidInput, None, "tags"),
        (HEAD + "---\n" + HEAD, InvalidInput, None, "more than one document (line 2)"),
        ("[" * 100_000, TooLarge, None, "nested deeper than 20 levels"),
        ("run: [" + "a," * 30_000 + "]", TooLarge, None, "more than 20000 values"),
        ("x" * 3_000_000, TooLarge, None, "larger than 2 MiB"),
        ("run: \udcff", InvalidInput, None, "UTF-8"),
        ("run: \x00", InvalidInput, None, "not valid YAML"),
        (HEAD + "name: a\nname: b\n", InvalidInput, None, "'name' is given twice (line 3)"),
        (HEAD + "requirement:\n  cores: yes\n", InvalidInput, "requirement.cores", "it is 'yes') (line 3)"),
        (HEAD + "requirement:\n  cores: true\n", InvalidInput, "requirement.cores", "truth value"),
        (HEAD + "requirement: {cores: .nan}\n", InvalidInput, "requirement.cores", "(line 2)"),
        (HEAD + "array: 1e400\n", InvalidInput, "array", "finite"),
        (HEAD + "\n\nrequirement:\n  coers: 1\n", UnknownField, "requirement.coers", "(line 5)"),
        ("run: {command: [a], files: {../x: y}}", InvalidInput, 'run.files["../x"]', "(line 1)"),
        ("{[a, b]: 1}", InvalidInput, None, "not valid YAML"),
        (HEAD + "1: 2", InvalidInput, None, "strings"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_yaml_slips(text: str, kind: type[YunheError], field: str | None, said: str) -> None:
    with pytest.raises(YunheError) as caught:
        load_order_yaml(text)
    assert type(caught.value) is kind
    assert said in str(caught.value)
    if field is not None:
        assert caught.value.field == field


@given(st.text(max_size=80) | st.text(alphabet="run: {}[]&*!|>-'\"\n\tcommand,~0.", max_size=80))
def test_any_text_is_an_order_or_one_clear_error(text: str) -> None:
    try:
        load_order_yaml(text)
    except YunheError as error:
        assert error.message


def test_patience() -> None:
    assert shape().terms.patience_ms == 0
    assert shape(patience="6h").terms.patience_ms == 6 * 3_600_000
    assert shape(patience="deadline", deadline="6h", preference="carbon").terms.patience_ms == AS_LONG_AS_IT_MAY


@pytest.mark.parametrize(
    "order",
    [
        {"patience": "6"},
        {"patience": "deadline"},
        {"patience": "6h", "preference": "speed"},
        {"patience": "6h", "start_at": "in 2h"},
    ],
)
def test_patience_that_means_nothing_is_refused(order: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        shape(**order)
    assert refused.value.field == "patience" and refused.value.hint
