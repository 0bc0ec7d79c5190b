"""Inputs and outputs by URL, one site's transfers against real servers."""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.fake_hub import start_lease
from tests.site.data_servers import LOCAL, Sftp, Web, WebFile, s3_client, s3_server, sftp_server, web_server
from yunhe.site.data.cache import key_of
from yunhe.site.data.failure import Blame, TransferFailed
from yunhe.site.data.progress import Progress
from yunhe.site.data.sources import Access, http_client
from yunhe.site.data.transfers import Transfers
from yunhe.site.drivers.contract import DataDriver, LeaseKey, SpawnFailed
from yunhe.site.drivers.fake import FakeDriver
from yunhe.site.drivers.lease_dir import LeaseDir
from yunhe.site.settings import SiteSettings
from yunhe.site.settings.data import DataSettings, StoreSettings
from yunhe.site.spool import Staged
from yunhe.wire.link import DataInput, Delivery, MovedFile, StartLease

GONE = httpx.Response(404)
BIG = os.urandom(3_000_000)
QUICK: dict[str, Any] = {"retry_first_ms": 10, "retry_cap_ms": 50, "tries": 3, "stall_ms": 20_000, "report_ms": 20}


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class FolderDriver(FakeDriver):
    """An engine in memory whose ended jobs left real folders."""

    def __init__(self, folder: Path) -> None:
        super().__init__("cpu", 1000, 1 << 30, 0)
        self.folder = LeaseDir(folder)
        (folder / "job").mkdir(parents=True, exist_ok=True)

    async def outputs(self, key: LeaseKey, wanted: Any, cap_bytes: int) -> Any:
        return self.folder.outputs(wanted, cap_bytes)

    async def open_output(self, key: LeaseKey, path: str) -> int:
        return self.folder.open_output(path)


class Site:
    """The transfers of one site, in a loop of their own."""

    def __init__(self, folder: Path, **data: Any) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        settings = DataSettings(**{"allow_networks": LOCAL, **QUICK, **data})
        self.driver = FolderDriver(folder / "lease")
        self.transfers = Transfers(
            SiteSettings(hub_url="http://x", site_id="s", name="s", data_dir=folder, data=settings), self.driver
        )
        self.staged: list[Staged] = []
        asyncio.run(self.transfers.open([]))

    def progress(self, start: StartLease, phase: Any) -> Progress:
        return Progress(LeaseKey(start.lease_id, start.epoch), phase, self.staged.append, 0)

    async def fetching(self, *inputs: DataInput, lease: str = "a", tenant: str = "lab", secret: str = "") -> list[Path]:
        start = start_lease(lease, ("true",), inputs=inputs, tenant=tenant)
        fetched = await self.transfers.fetch(start, {"KEY": secret.encode()}, self.progress(start, "in"))
        assert [file.path for file in fetched.files] == [item.path for item in inputs]
        for file in fetched.files:
            body = fetched.places[file.path].read_bytes()
            assert (file.size_bytes, file.sha256) == (len(body), sha(body))
        return [fetched.places[item.path] for item in inputs]

    def fetch(self, *inputs: DataInput, **words: str) -> bytes:
        """The last input's content."""
        return asyncio.run(self.fetching(*inputs, **words))[-1].read_bytes()

    def push(self, *deliveries: Delivery, files: dict[str, bytes]) -> tuple[MovedFile, ...]:
        for path, body in files.items():
            target = self.folder / "lease" / "job" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        start = start_lease("a", ("true",), deliveries=deliveries, tenant="lab")
        return asyncio.run(self.transfers.push(start, self.progress(start, "out")))

    def fails(self, item: DataInput, words: str, blame: Blame, **more: str) -> None:
        with pytest.raises(TransferFailed, match=words) as caught:
            self.fetch(item, **more)
        assert caught.value.blame is blame and caught.value.text.startswith("run.inputs[0]: ")


def item(url: str, path: str = "in.bin", **more: Any) -> DataInput:
    return DataInput(url=url, path=path, **more)


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[Sftp]:
    with sftp_server(tmp_path / "sftp") as server:
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def store(tmp_path: Path, prefix: str, tenants: tuple[str, ...] = (), **options: str) -> StoreSettings:
    file = tmp_path / f"options-{len(list(tmp_path.iterdir()))}.json"
    file.write_text(json.dumps(options))
    return StoreSettings(prefix=prefix, options_file=file, tenants=tenants)


# --- http ---------------------------------------------------------------------------------------------------------


def test_an_engine_without_folders_refuses_data() -> None:
    settings = SiteSettings(hub_url="http://x", site_id="s", name="s", data_dir=Path("/nowhere"))
    transfers = Transfers(settings, FakeDriver("cpu", 1000, 1 << 30, 0))
    transfers.check(start_lease("a", ("true",)))
    with pytest.raises(SpawnFailed, match="takes no data files"):
        transfers.check(start_lease("a", ("true",), inputs=(item("s3://b/k"),)))


def test_a_file_comes_once_and_stays(site: Site, web: Web) -> None:
    assert isinstance(site.driver, DataDriver)
    web.files["big"] = WebFile(BIG)
    stated = item(web.url + "big", size_bytes=len(BIG), sha256=sha(BIG))
    assert site.fetch(stated) == BIG
    assert site.staged[0].done_bytes == 0 and site.staged[-1].done_bytes == len(BIG)
    # By its hash alone, and without it by asking whether it has changed.
    assert site.fetch(stated, lease="b") == BIG and web.gets("big") == 1
    assert site.fetch(item(web.url + "big"), lease="c") == BIG and web.gets("big") == 2
    assert web.sent_bytes == len(BIG)
    web.files["big"] = WebFile(b"new", '"two"')
    assert site.fetch(item(web.url + "big"), lease="d") == b"new"


def test_a_break_costs_only_what_is_missing(site: Site, web: Web) -> None:
    web.files["big"] = WebFile(BIG)
    web.break_after = 1_000_000
    assert site.fetch(item(web.url + "big")) == BIG
    assert web.gets("big") == 3 and web.sent_bytes == len(BIG)
    assert any("run.inputs[0]: " in staged.problem for staged in site.staged) and not site.staged[-1].problem


def test_a_source_that_changes_meanwhile_is_fetched_anew(site: Site, web: Web) -> None:
    other = os.urandom(len(BIG))
    web.files["big"] = WebFile(BIG)
    web.break_after = 1_000_000
    few = Site(site.folder, tries=1)
    few.fails(item(web.url + "big"), "tried 1 times", Blame.SITE)
    web.break_after = None
    web.files["big"] = WebFile(other, '"two"')
    assert site.fetch(item(web.url + "big")) == other
    assert web.sent_bytes == 1_000_000 + len(other)


def test_a_server_without_ranges_is_asked_from_the_start(site: Site, web: Web) -> None:
    web.files["big"] = WebFile(BIG)
    web.ranges, web.break_after = False, 2_000_000
    with pytest.raises(TransferFailed, match="tried 3 times"):
        site.fetch(item(web.url + "big"))
    web.break_after = None
    assert site.fetch(item(web.url + "big")) == BIG


def test_what_the_order_says_wrong_fails_for_good(site: Site, web: Web) -> None:
    web.files["big"] = WebFile(BIG)
    site.fails(item(web.url + "none"), "404", Blame.ORDER)
    site.fails(item(web.url + "big", sha256=sha(b"other")), f"its SHA-256 is {sha(BIG)}", Blame.ORDER)
    site.fails(item(web.url + "big", size_bytes=7), "it has 3000000 bytes, the order says 7", Blame.ORDER)
    assert web.gets("none") == 1


def test_what_this_site_cannot_is_another_sites_turn(site: Site, web: Web, tmp_path: Path) -> None:
    web.status = 503
    site.fails(item(web.url + "big"), "503.*; tried 3 times", Blame.SITE)
    site.fails(item("http://127.0.0.1:1/x"), "tried 3 times", Blame.SITE)
    web.status = 0
    web.files["big"] = WebFile(BIG)
    Site(tmp_path / "small", input_limit_bytes=1000).fails(item(web.url + "big"), "larger than the 1000", Blame.SITE)


def test_a_source_that_hangs_is_given_up_and_asked_again(tmp_path: Path, web: Web) -> None:
    web.files["big"] = WebFile(BIG)
    web.pause_s = 30
    Site(tmp_path / "site", stall_ms=1_500, tries=2).fails(item(web.url + "big"), "nothing came for", Blame.SITE)


# --- the centre's inside ------------------------------------------------------------------------------------------


def test_a_source_that_is_too_slow_is_given_up(tmp_path: Path, web: Web) -> None:
    """Bytes come all the time, and each try brings some: only the rate says that this has no end."""
    web.files["slow"] = WebFile(BIG)
    web.pause_s = 0.1  # 640 kB/s
    quick = Site(tmp_path / "quick", least_bytes_per_s=100_000, least_over_ms=500)
    assert quick.fetch(item(web.url + "slow")) == BIG
    web.break_after = 1 << 18  # so much for each try
    slow = Site(tmp_path / "slow", least_bytes_per_s=10_000_000, least_over_ms=800)
    slow.fails(item(web.url + "slow"), "slower than 10000000 bytes/s", Blame.SITE)
    assert web.gets("slow") < 2 + len(BIG) // web.break_after


@pytest.mark.parametrize(
    ("host", "blame"),
    [
        ("127.0.0.1", Blame.ORDER),
        ("localhost", Blame.ORDER),
        ("[::ffff:127.0.0.1]", Blame.ORDER),
        ("0x7f000001", Blame.ORDER),
        ("169.254.169.254", Blame.ORDER),
        ("10.1.2.3", Blame.SITE),
        ("100.64.0.1", Blame.SITE),
        ("[64:ff9b::a00:1]", Blame.SITE),
        ("[64:ff9b:1::7f00:1]", Blame.SITE),
        ("[fec0::1]", Blame.SITE),
        ("192.0.0.192", Blame.SITE),
        ("168.63.129.16", Blame.SITE),
    ],
)
def test_inner_addresses_are_closed(tmp_path: Path, web: Web, host: str, blame: Blame) -> None:
    port = web.url.split(":")[2]
    site = Site(tmp_path / "site", allow_networks=())
    site.fails(item(f"http://{host}:{port}big"), "the address", blame)
    assert web.requests == []


def test_a_redirect_is_no_way_in(tmp_path: Path, web: Web) -> None:
    web.files["secret"] = WebFile(b"secret")
    web.redirects["out"] = web.url.replace("127.0.0.1", "127.0.0.2") + "secret"
    site = Site(tmp_path / "site", allow_networks=("127.0.0.1/32",))
    site.fails(item(web.url + "out"), "the address 127.0.0.2", Blame.ORDER)
    web.redirects["in"] = web.url + "secret"
    assert site.fetch(item(web.url + "in"), lease="b") == b"secret"


def test_a_redirect_does_not_leave_tls() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"Location": request.url.params["to"]}) if request.url.query else GONE

    with http_client("https://lab.example/", Access((), {}, "")) as client:
        client._transport = httpx.MockTransport(answer)
        assert client.get("https://lab.example/?to=/there").status_code == 404
        assert client.get("https://lab.example/?to=https://other.example/").status_code == 404
        with pytest.raises(TransferFailed, match="without TLS"):
            client.get("https://lab.example/?to=http://other.example/")


def test_an_endless_or_foreign_name_of_content_is_ignored(site: Site, web: Web) -> None:
    for etag in (f'"{"a" * 70_000}"', '"\xe9"'):
        web.files["odd"] = WebFile(b"odd", etag=etag)
        assert site.fetch(item(web.url + "odd")) == b"odd"
        assert site.fetch(item(web.url + "odd")) == b"odd"


# --- who may have what -------------------------------------------------------------------------------------------


def test_a_hash_opens_nobody_elses_file(site: Site, web: Web) -> None:
    web.files["private"] = WebFile(b"private")
    web.files["mine"] = WebFile(b"mine")
    site.fetch(item(web.url + "private"), tenant="lab")
    wrong = item(web.url + "mine", sha256=sha(b"private"))
    site.fails(wrong, "its SHA-256", Blame.ORDER, tenant="other")
    assert site.fetch(item(web.url + "private", sha256=sha(b"private")), lease="b", tenant="other") == b"private"


def test_options_of_an_order_bring_nothing_to_others(site: Site, web: Web) -> None:
    """Here a bearer; with S3 it is `endpoint_url`, and the answer comes from a server of the order's choice."""
    web.files["shared"] = WebFile(b"false")
    site.fetch(item(web.url + "shared", secret="KEY"), tenant="evil", secret='{"bearer": "x"}')
    web.files["shared"] = WebFile(b"right")  # which has the same name
    assert site.fetch(item(web.url + "shared"), lease="b") == b"right"
    assert site.fetch(item(web.url + "shared", secret="KEY"), lease="c", secret='{"bearer": "x"}') == b"right"


def test_a_slow_source_of_the_same_hash_holds_nobody_up(tmp_path: Path, web: Web) -> None:
    web.files["own"] = web.files["slow"] = WebFile(BIG)
    site = Site(tmp_path / "site")
    site.fetch(item(web.url + "own"), tenant="lab")

    async def both() -> None:
        web.pause_s = 1.0
        slow = asyncio.create_task(site.fetching(item(web.url + "slow", sha256=sha(BIG)), lease="b", tenant="other"))
        await asyncio.sleep(1.0)
        async with asyncio.timeout(5):
            await site.fetching(item(web.url + "own", sha256=sha(BIG)), lease="c", tenant="lab")
        assert not slow.done()
        slow.cancel()
        await asyncio.wait([slow])

    asyncio.run(both())


def test_options_of_a_store_are_for_whom_the_site_says(tmp_path: Path, web: Web) -> None:
    web.files["x"] = WebFile(b"x")
    web.token = "t0ken"
    site = Site(tmp_path / "site", stores=(store(tmp_path, web.url, ("lab",), bearer="t0ken"),))
    assert site.fetch(item(web.url + "x"), tenant="lab") == b"x"
    site.fails(item(web.url + "x"), "401", Blame.ORDER, tenant="other", lease="b")
    secret = json.dumps({"bearer": "t0ken"})
    assert site.fetch(item(web.url + "x", secret="KEY"), lease="c", tenant="other", secret=secret) == b"x"


# --- s3, sftp, file ------------------------------------------------------------------------------------------------


def test_s3_in_and_out(tmp_path: Path, s3: str) -> None:
    client = s3_client(s3)
    client.create_bucket(Bucket="lab")
    client.put_object(Bucket="lab", Key="in/big", Body=BIG)
    options = store(tmp_path, "s3://lab/", endpoint_url=s3, key="AKIDTEST", secret="SECRETTEST", region="us-east-1")
    site = Site(tmp_path / "site", stores=(options,))
    assert site.fetch(item("s3://lab/in/big", size_bytes=len(BIG), sha256=sha(BIG))) == BIG
    site.fails(item("s3://lab/in/none"), "no such file", Blame.ORDER, lease="b")
    large = BIG * 12  # three parts
    sent = site.push(
        Delivery(path="large", url="s3://lab/out/large"),
        Delivery(path="many", url="s3://lab/out/many/"),
        files={"large": large, "many/a": b"a", "many/b/c": b"c"},
    )
    assert [(file.path, file.problem) for file in sent] == [("large", ""), ("many/a", ""), ("many/b/c", "")]
    got = client.get_object(Bucket="lab", Key="out/large")
    assert got["Body"].read() == large and got["Metadata"] == {"sha256": sha(large)}
    assert client.get_object(Bucket="lab", Key="out/many/b/c")["Body"].read() == b"c"


def test_sftp_in_and_out(tmp_path: Path, sftp: Sftp) -> None:
    (sftp.root / "big").write_bytes(BIG)
    options = store(tmp_path, sftp.url, username="tester", password="open sesame")
    site = Site(tmp_path / "site", stores=(options,), known_hosts=sftp.known_hosts)
    assert site.fetch(item(sftp.url + "big", sha256=sha(BIG))) == BIG
    (sent,) = site.push(Delivery(path="out", url=sftp.url + "deep/out"), files={"out": BIG})
    assert (sent.problem, sent.sha256) == ("", sha(BIG))
    assert (sftp.root / "deep" / "out").read_bytes() == BIG and len(list((sftp.root / "deep").iterdir())) == 1


def test_sftp_by_a_key_of_the_order(tmp_path: Path, sftp: Sftp) -> None:
    (sftp.root / "big").write_bytes(BIG)
    site = Site(tmp_path / "site", known_hosts=sftp.known_hosts)
    secret = json.dumps({"username": "tester", "private_key": sftp.private_key})
    assert site.fetch(item(sftp.url + "big", secret="KEY"), secret=secret) == BIG
    wrong = json.dumps({"username": "tester", "private_key": "/root/.ssh/id_rsa"})
    site.fails(item(sftp.url + "big", secret="KEY"), "KeyImportError", Blame.SITE, secret=wrong, lease="b")
    site.fails(item(sftp.url + "big"), "neither the order nor this site", Blame.SITE, lease="c")


def test_a_broken_upload_goes_on(tmp_path: Path, sftp: Sftp) -> None:
    """What is there of this very content is not sent again: the server's own record of it is believed."""
    options = store(tmp_path, sftp.url, username="tester", password="open sesame")
    site = Site(tmp_path / "site", stores=(options,), known_hosts=sftp.known_hosts, write_folders=(tmp_path,))
    half = BIG[: len(BIG) // 2]
    (sftp.root / f".out.{sha(BIG)[:16]}.part").write_bytes(half)
    (tmp_path / f".out.{sha(BIG)[:16]}.part").write_bytes(half)
    sent = site.push(
        Delivery(path="out", url=sftp.url + "out"),
        Delivery(path="same", url=f"file://{tmp_path}/out"),
        files={"out": BIG, "same": BIG},
    )
    assert [file.problem for file in sent] == ["", ""]
    assert (sftp.root / "out").read_bytes() == BIG == (tmp_path / "out").read_bytes()
    first = [staged.done_bytes for staged in site.staged if staged.done_bytes]
    assert min(first) > len(half) - (1 << 20)


def test_a_broken_multipart_upload_goes_on(tmp_path: Path, s3: str) -> None:
    client = s3_client(s3)
    client.create_bucket(Bucket="parts")
    options = store(tmp_path, "s3://parts/", endpoint_url=s3, key="AKIDTEST", secret="SECRETTEST", region="us-east-1")
    site = Site(tmp_path / "site", stores=(options,))
    large = BIG * 12
    part = large[: 16 << 20]
    upload = client.create_multipart_upload(Bucket="parts", Key="large", Metadata={"sha256": sha(large)})["UploadId"]
    client.upload_part(Bucket="parts", Key="large", UploadId=upload, PartNumber=1, Body=part)
    state = tmp_path / "site" / "data" / "uploads" / "a.1" / key_of("large")
    state.mkdir(parents=True)
    (state / "upload").write_text(json.dumps({"upload": upload, "sha256": sha(large)}))
    (sent,) = site.push(Delivery(path="large", url="s3://parts/large"), files={"large": large})
    got = client.get_object(Bucket="parts", Key="large")
    assert sent.problem == "" and got["Body"].read() == large and not (state / "upload").exists()
    assert client.list_multipart_uploads(Bucket="parts").get("Uploads", []) == []


def test_a_multipart_upload_that_is_given_up_is_aborted(tmp_path: Path, s3: str) -> None:
    client = s3_client(s3)
    client.create_bucket(Bucket="left")
    options = store(tmp_path, "s3://left/", endpoint_url=s3, key="AKIDTEST", secret="SECRETTEST", region="us-east-1")
    site = Site(tmp_path / "site", stores=(options,), push_limit_ms=100)
    upload = client.create_multipart_upload(Bucket="left", Key="large")["UploadId"]
    client.upload_part(Bucket="left", Key="large", UploadId=upload, PartNumber=1, Body=BIG)
    state = tmp_path / "site" / "data" / "uploads" / "a.1" / key_of("large")
    state.mkdir(parents=True)
    (state / "upload").write_text(json.dumps({"url": "s3://left/large", "upload": upload, "sha256": "another"}))
    start = start_lease("a", ("true",), deliveries=(Delivery(path="large", url="s3://left/large"),), tenant="lab")
    for _ in range(2):  # the second time there is nothing to give up
        asyncio.run(site.transfers.abandon(start))
        assert client.list_multipart_uploads(Bucket="left").get("Uploads", []) == []
    assert not (state / "upload").exists()


def test_an_upload_of_older_content_is_aborted(tmp_path: Path, s3: str) -> None:
    client = s3_client(s3)
    client.create_bucket(Bucket="older")
    options = store(tmp_path, "s3://older/", endpoint_url=s3, key="AKIDTEST", secret="SECRETTEST", region="us-east-1")
    site = Site(tmp_path / "site", stores=(options,))
    upload = client.create_multipart_upload(Bucket="older", Key="large")["UploadId"]
    state = tmp_path / "site" / "data" / "uploads" / "a.1" / key_of("large")
    state.mkdir(parents=True)
    (state / "upload").write_text(json.dumps({"url": "s3://older/large", "upload": upload, "sha256": "another"}))
    (sent,) = site.push(Delivery(path="large", url="s3://older/large"), files={"large": BIG * 6})
    assert sent.problem == "" and client.list_multipart_uploads(Bucket="older").get("Uploads", []) == []


def test_an_unknown_sftp_server_is_not_spoken_to(tmp_path: Path, sftp: Sftp) -> None:
    (sftp.root / "big").write_bytes(BIG)
    options = store(tmp_path, sftp.url, username="tester", password="open sesame")
    (tmp_path / "nobody").touch()
    Site(tmp_path / "site", stores=(options,), known_hosts=tmp_path / "nobody").fails(
        item(sftp.url + "big"), "HostKeyNotVerifiable", Blame.SITE
    )


def test_file_in_and_out_below_their_folders_only(tmp_path: Path) -> None:
    data, drop = tmp_path / "data", tmp_path / "drop"
    data.mkdir()
    drop.mkdir()
    (data / "big").write_bytes(BIG)
    (tmp_path / "key").write_text("the site's key")
    (data / "link").symlink_to(tmp_path / "key")
    site = Site(tmp_path / "site", read_folders=(data,), write_folders=(drop,))
    assert site.fetch(item(f"file://{data}/big")) == BIG
    site.fails(item(f"file://{data}/link"), "reads no files there", Blame.SITE, lease="b")
    site.fails(item(f"file://{tmp_path}/key"), "reads no files there", Blame.SITE, lease="b")
    sent = site.push(
        Delivery(path="out", url=f"file://{drop}/new/out"),
        Delivery(path="other", url=f"file://{data}/out"),
        files={"out": BIG, "other": BIG},
    )
    assert (drop / "new" / "out").read_bytes() == BIG and not (data / "out").exists()
    assert sent[-1].problem == "other: this site writes no files there"


def test_http_out(site: Site, web: Web) -> None:
    (sent, gone) = site.push(
        Delivery(path="out", url=web.url + "put/out"),
        Delivery(path="gone", url=web.url + "put/gone"),
        files={"out": BIG},
    )
    assert web.put["put/out"] == BIG and sent.problem == "" and gone.problem == "not there"
    _, _, headers = web.requests[-1]
    assert headers["Repr-Digest"].startswith("sha-256=:") and "Transfer-Encoding" not in headers
    web.status = 403
    (refused,) = site.push(Delivery(path="out", url=web.url + "put/out"), files={"out": b"1"})
    assert refused.problem == "out: the server answers 403 Forbidden" and refused.size_bytes == 1


# --- the cache ----------------------------------------------------------------------------------------------------


def test_many_want_the_same_at_once_and_it_comes_once(site: Site, web: Web) -> None:
    web.files["big"] = WebFile(BIG)

    async def all_at_once() -> None:
        url = web.url + "big"
        await asyncio.gather(*(site.fetching(item(url, sha256=sha(BIG)), lease=f"l{n}") for n in range(6)))

    asyncio.run(all_at_once())
    assert web.gets("big") == 1 and web.sent_bytes == len(BIG)


def test_the_least_recently_used_goes_and_what_a_lease_uses_stays(tmp_path: Path, web: Web) -> None:
    site = Site(tmp_path / "site", cache_limit_bytes=2_500)
    kept = tmp_path / "site" / "data" / "content"

    def have(name: str, lease: str) -> None:
        web.files[name] = WebFile(name.encode() * 1000, f'"{name}"')
        site.fetch(item(web.url + name), lease=lease)

    for name in "abc":
        have(name, name)
    assert len(list(kept.iterdir())) == 3  # all three leases still run
    asyncio.run(site.transfers.release(LeaseKey("a", 1)))
    asyncio.run(site.transfers.release(LeaseKey("b", 1)))
    have("a", "d")
    assert {path.read_bytes()[:1] for path in kept.iterdir()} == {b"a", b"c"}
