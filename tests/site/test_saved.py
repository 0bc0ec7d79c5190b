"""Archives of checkpoints that no site of Yunhe has packed: refused at once, and nothing is left beside the folder."""

import os
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from yunhe.site.drivers.lease_dir import LeaseDir
from yunhe.site.drivers.saved import Saved, place

END = bytes(1024)
SPEC: Any = {}


def entry(name: str, body: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(body), kind, link
    return info.tobuf(tarfile.PAX_FORMAT) + body + bytes(-len(body) % 512)


def records(text: bytes) -> bytes:
    return entry("more", text, tarfile.XHDTYPE)


def sized(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header that tells a size which nothing follows."""
    info = tarfile.TarInfo("x")
    info.type = kind
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[124:136] = size.to_bytes(12, "big", signed=True) if size < 0 else b"%011o\0" % size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


BAD = {
    "a link": entry("x", kind=tarfile.SYMTYPE, link="/etc/passwd"),
    "a hard link": entry("x", kind=tarfile.LNKTYPE, link="/etc/passwd"),
    "a device": entry("x", kind=tarfile.CHRTYPE),
    "an absolute name": entry("/tmp/x"),
    "a way out": entry("a/../../x"),
    "no name": entry("."),
    "a name with a zero": records(b"12 path=a\0b\n") + entry("x"),
    "a name too long": entry("/".join(["a"] * 3000)),
    "a file as folder": entry("x") + entry("x/y"),
    "a size below zero": sized(-512),
    "records of a size below zero": sized(-512, tarfile.XHDTYPE) + entry("x"),
    "a size by its record": records(b"13 size=-512\n") + entry("x"),
    "a size without bytes": sized(1 << 30),
    "records without a number": records(b"zzz") + entry("x"),
    "records that stand still": records(b"0 a=b\n") + entry("x"),
    "records without an end": records(b"1" * 300_000) + entry("x"),
    "records of records": records(b"6 a=b\n") * 2000 + entry("x"),
    "long names of long names": entry("x", b"abcd\0", tarfile.GNUTYPE_LONGNAME) * 2000 + entry("x"),
    "holes": entry("x", kind=tarfile.GNUTYPE_SPARSE),
    "no archive": b"\1" * 2048,
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_it_is_refused_at_once(tmp_path: Path, case: str) -> None:
    archive, job = tmp_path / "archive", tmp_path / "job"
    archive.write_bytes(BAD[case] + END)
    job.mkdir()
    began = time.monotonic()
    with pytest.raises(OSError):
        place(Saved("checkpoint", archive), job)
    assert time.monotonic() - began < 30
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "job"}
    assert {path.name for path in job.iterdir()} == {"checkpoint"}


def test_one_that_breaks_off_is_refused(tmp_path: Path) -> None:
    whole = entry("x", b"body") + END
    for size in (0, 100, 512, 514, 1024, 1500):
        archive, job = tmp_path / f"archive-{size}", tmp_path / f"job-{size}"
        archive.write_bytes(whole[:size])
        job.mkdir()
        with pytest.raises(OSError):
            place(Saved("checkpoint", archive), job)


@pytest.mark.parametrize("uid", [None, os.geteuid()])
def test_a_checkpoint_is_newer_than_the_orders_files(tmp_path: Path, uid: int | None) -> None:
    archive, cached = tmp_path / "archive", tmp_path / "cached"
    archive.write_bytes(entry("a", b"saved") + entry("b", b"saved too") + END)
    cached.write_bytes(b"first")
    folder = LeaseDir(tmp_path / "lease")
    files = {"checkpoint/a": "first", "checkpoint/c": "first"}
    data = {"checkpoint/b": cached, "checkpoint/d": cached}
    folder.prepare(SPEC, "", files, uid, data, Saved("checkpoint", archive))
    found = {path.name: path.read_bytes() for path in (tmp_path / "lease" / "job" / "checkpoint").iterdir()}
    assert found == {"a": b"saved", "b": b"saved too", "c": b"first", "d": b"first"}


def test_long_and_foreign_names_come_back(tmp_path: Path) -> None:
    names = ["plain", "a/b/c", "\u8fd0\u6cb3", "d" * 90 + "/" + "e" * 200, "bytes-\udcff"]
    archive, job = tmp_path / "archive", tmp_path / "job"
    archive.write_bytes(b"".join(entry(name, name.encode(errors="surrogateescape")) for name in names) + END)
    job.mkdir()
    place(Saved("checkpoint", archive), job)
    for name in names:
        assert (job / "checkpoint" / name).read_bytes() == name.encode(errors="surrogateescape")
