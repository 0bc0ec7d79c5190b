"""Orders as YAML files: paths become text, mistakes are named, and what is dumped can be read back."""

from pathlib import Path

import pytest

from tests.law.sources import ROOT
from yunhe.core.errors import InvalidInput, TooLarge, UnknownField
from yunhe.sdk import load_order
from yunhe.sdk.orderfile import dump_order, parse_order


def test_listed_files_are_read_relative_to_the_order_file(tmp_path: Path) -> None:
    (tmp_path / "orders" / "lib").mkdir(parents=True)
    (tmp_path / "job.py").write_text("print('你好')\n", encoding="utf-8")
    (tmp_path / "orders" / "lib" / "x.txt").write_text("x")
    path = tmp_path / "orders" / "a.yaml"
    path.write_text("run:\n  command: [python3, job.py]\n  files: [../job.py, ./lib/x.txt]\n")
    assert load_order(path).run.files == {"job.py": "print('你好')\n", "lib/x.txt": "x"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("[nowhere.py]", "nowhere.py cannot be read: No such file"),
        ("[binary]", "binary is not text"),
        ("[nul]", "nul is not text"),
        ("[/etc/hostname]", "absolute path"),
        ("[job.py, ./job.py]", "two files would be 'job.py'"),
    ],
)
def test_a_file_that_cannot_be_sent_is_named(files: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x80\x81")
    (tmp_path / "nul").write_bytes(b"a\x00b")
    (tmp_path / "job.py").write_text("")
    path = tmp_path / "a.yaml"
    path.write_text(f"run:\n  command: [x]\n  files: {files}\n")
    with pytest.raises(InvalidInput, match=message) as caught:
        load_order(path)
    assert caught.value.field == f"{path}: run.files"


def test_files_are_bounded_together(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("x" * 600_000)
    with pytest.raises(TooLarge, match="b.txt"):
        parse_order("run: {command: [x], files: [a.txt, b.txt]}", tmp_path)


@pytest.mark.parametrize(
    ("text", "kind", "field"),
    [
        ("run:\n  comand: [x]\n", UnknownField, "run.comand"),
        ("run: {command: [x]}\nrequirement: {cores: many}\n", InvalidInput, "requirement.cores"),
        ("run: {command: []}", InvalidInput, "run.command"),
        ("requirement: {cores: 1}", InvalidInput, "run"),
        ("- a\n- b\n", InvalidInput, None),
        ("run: {command: [x\n", InvalidInput, None),
        ("", InvalidInput, None),
    ],
)
def test_a_mistake_names_the_file_and_the_field(
    text: str, kind: type[InvalidInput], field: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(kind) as caught:
        load_order(path)
    assert caught.value.field == (f"{path}: {field}" if field else str(path))


def test_what_cannot_be_read_is_said_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "a.yaml"):
        with pytest.raises(InvalidInput) as caught:
            load_order(path)
        assert caught.value.field == str(path)


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "orders").glob("[0-9]*.yaml")), ids=lambda p: p.name)
def test_a_dumped_order_is_the_same_order(path: Path, tmp_path: Path) -> None:
    order = load_order(path)
    assert parse_order(dump_order(order), tmp_path) == order


def test_the_text_of_secrets_is_read_from_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUNHE_TEST_TOKEN", "from the environment")
    (tmp_path / "pass").write_text("from a file\n")
    order = parse_order("run:\n  command: [x]\n  secrets: {A: {env: YUNHE_TEST_TOKEN}, B: {file: pass}}\n", tmp_path)
    assert {name: value.get_secret_value() for name, value in order.run.secrets.items()} == {
        "A": "from the environment",
        "B": "from a file\n",
    }
    assert "from" not in repr(order) and "from" not in dump_order(order) and "from" not in order.model_dump_json()
