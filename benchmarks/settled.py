"""settled: orders from submit to settled per second, sustained, on PostgreSQL.

Every order goes the whole way: POST, hold, round, lease, instruction over the signed link, reports, usage, charge,
postings, release.  Sixteen agents end each job at once.  At most 1,000 orders are under way, so that what is counted
at the end was not left in a queue.  Orders settled are counted in the database, at the start and the end of the
window.  `rows_per_order` is what an order leaves in the tables; how many rows were inserted (with those that are
deleted again: its instruction and its settlement's work), updated and deleted is what the server itself counted.

Expected and found, on two cores shared with other work, so that the steps are only roughly comparable.  The first cut
settled 125 orders a second at 4.1 ms of the hub's CPU each.  Fewer rows were expected to help most; what helped was
fewer and lighter calls.  All rows of a statement as one JSON parameter: 3.4 ms.  An express way beside the web
framework, rounds that rest, an interpreter that switches threads sooner: 2.2.  Polls of all sites applied together,
ids as one parameter, charges and releases booked together: 1.4.  Several tables in one round trip: 0.9, at 550 to 720
orders a second, of which 0.55 in the writer's thread and 0.25 in the event loop.  The goal would need about 0.55 in
all, as one process has one interpreter.
"""

import time

import sqlalchemy as sa

from benchmarks import hubs
from benchmarks.fake_agents import Agent
from benchmarks.figure import Extra, Figure
from benchmarks.generator import Generator
from benchmarks.hubs import HubProcess
from benchmarks.scene import Scene

CONNECTIONS = 32
SITES, CORES = 16, 256
Rows = tuple[int, int, int, int]

SECONDS, QUICK_S, WARM_S = 60.0, 10.0, 4.0


def measure(scene: Scene) -> Figure:
    folder = scene.subfolder("settled")
    with hubs.postgresql(scene.postgresql()) as url, hubs.hub(url, folder) as running:
        key = running.customer()
        sites = running.active_sites(SITES, CORES)
        seconds = scene.seconds(SECONDS, QUICK_S)
        job = {
            "host": running.host,
            "port": running.port,
            "key": key,
            "connections": CONNECTIONS,
            "seconds": WARM_S + seconds + 1,
            "agents": [Agent.to_job(site) for site in sites],
        }
        engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
        before = _rows(url, engine)
        with Generator("settle", job) as load:
            time.sleep(WARM_S)
            rate, cores = _window(scene, running, engine, load, seconds)
            found = load.result(60)
        if found["refused"]:
            raise RuntimeError(f"{found['refused']} orders were refused, the first: {found['first_refusal']}")
        extra: dict[str, Extra] = {"hub_cores": cores, "load_cpu_s": round(float(str(found["cpu_s"])), 1)}
        return Figure(rate, extra={**extra, **_rows_per_order(url, engine, before)})


def _window(
    scene: Scene, running: HubProcess, engine: sa.Engine, load: Generator, seconds: float
) -> tuple[float, float]:
    """(orders settled per second, cores that the hub used)."""
    cpu, since = running.cpu_s(), time.monotonic()
    first = last = _settled(engine)
    while (now := time.monotonic()) - since < seconds:
        time.sleep(min(5.0, seconds - (now - since)))
        last = _settled(engine)
        scene.say(f"{last - first} settled in {time.monotonic() - since:.0f} s")
    spent = time.monotonic() - since
    return (last - first) / spent, round((running.cpu_s() - cpu) / spent, 2)


def _settled(engine: sa.Engine) -> int:
    with engine.connect() as conn:
        return int(conn.exec_driver_sql("SELECT count(*) FROM order_ WHERE settled").scalar_one())


def _rows(url: str, engine: sa.Engine) -> Rows:
    """Rows in the tables; rows inserted, updated, deleted until now, which the server tells a second late."""
    time.sleep(1.5)
    with engine.connect() as conn:
        row = conn.exec_driver_sql(
            "SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del) FROM pg_stat_user_tables"
        ).one()
    return sum(hubs.count_rows(url).values()), int(row[0]), int(row[1]), int(row[2])


def _rows_per_order(url: str, engine: sa.Engine, before: Rows) -> dict[str, Extra]:
    after, settled = _rows(url, engine), max(1, _settled(engine))
    names = ("rows_per_order", "inserted_per_order", "updated_per_order", "deleted_per_order")
    return {name: round((b - a) / settled, 2) for name, a, b in zip(names, before, after, strict=True)}
