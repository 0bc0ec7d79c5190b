"""URLs of data: what is taken, and where each file of a folder goes."""

import pytest
from pydantic import TypeAdapter, ValidationError

from yunhe.wire.api import RunSpec
from yunhe.wire.data import deliveries_of, inputs_of, url_of
from yunhe.wire.link import StartLease
from yunhe.wire.urls import DataUrl, shown

URL: TypeAdapter[str] = TypeAdapter(DataUrl)


@pytest.mark.parametrize(
    "url",
    [
        "https://data.example/a%20b?sig=x",
        "http://[2001:db8::1]:8080/x",
        "s3://bucket/key/with=odd&chars",
        "sftp://host:2222/srv/x",
        "file:///srv/data/{task}.csv",
        "https://例え.jp/データ",
    ],
)
def test_taken(url: str) -> None:
    assert URL.validate_python(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x.csv",
        "/etc/passwd",
        "file:/etc/passwd",
        "file://host/etc/passwd",
        "file:///",
        "ftp://h/x",
        "https://user@h/x",
        "https://u:p@h/x",
        "https:///x",
        "https://h:99999/x",
        "s3://bucket",
        "s3://bucket/k?versionId=1",
        "https://h/x#part",
        "https://h/a/../b",
        "https://h/a/%2e%2e/b",
        "https://h/a%2f..%2fb",
        "file:///srv/%00",
        "https://h/a b",
        "https://h/a\nb",
        "https://h/{name}",
        "https://h/" + "x" * 2_000,
    ],
)
def test_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        URL.validate_python(url)


def test_a_query_is_not_shown() -> None:
    assert shown("https://h/x?sig=secret") == "https://h/x?..." and shown("s3://b/k") == "s3://b/k"


def test_each_task_has_its_own_urls_and_each_file_its_own() -> None:
    run = RunSpec.model_validate(
        {
            "command": ["true"],
            "inputs": [
                {"url": "s3://b/{task}", "path": "in", "size": "1KiB"},
                {"url": "s3://b/x", "path": "y", "size": 7},
            ],
            "outputs": ["log", {"path": "out/", "url": "https://h/run-{task}/"}, {"path": "one", "url": "s3://b/one"}],
        }
    )
    first, second = inputs_of(run, 3)
    assert (first.url, first.size_bytes, second.size_bytes) == ("s3://b/3", 1024, 7)
    assert [delivery.url for delivery in deliveries_of(run, 3)] == ["https://h/run-3/", "s3://b/one"]
    assert url_of(run, 3, "out/a b/c") == "https://h/run-3/a%20b/c"
    assert (url_of(run, 3, "one"), url_of(run, 3, "log"), url_of(run, 3, "other")) == ("s3://b/one", "", "")


def test_what_a_hub_says_is_no_path_of_the_site() -> None:
    start = {"kind": "start", "seq": 1, "lease_id": "a", "epoch": 1, "pool": "cpu", "slots": 1, "slot_milli": 1}
    start |= {"slot_memory_bytes": 0, "run_limit_ms": 1, "disconnect_limit_ms": 1, "command": ["x"]}
    start |= {"log_cap_bytes": 1, "output_cap_bytes": 1}
    StartLease.model_validate(start)
    for wrong in (
        {"secrets": ["../KEY"]},
        {"inputs": [{"url": "https://h/x", "path": "a", "sha256": "../" * 8}]},
        {"checkpoint": {"folder": "..", "cap_bytes": 1}},
        {"checkpoint": {"folder": "/etc", "cap_bytes": 1}},
        {"outputs": ["../key"]},
    ):
        with pytest.raises(ValidationError):
            StartLease.model_validate({**start, **wrong})
