"""settled: orders from submit to settled per second, sustained, on PostgreSQL.

Every order goes the whole way: POST, hold, round, lease, instruction over the signed link, reports, usage, charge,
postings, release.  Sixteen agents end each job at once.  At most 1,000 orders are under way, so that what is counted
at the end was not left in a queue.  Orders settled are counted in the database, at the start and the end of the
window; rows are those that the server itself counted as inserted, updated and deleted between start and end.
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
        before = _written(engine)
        with Generator("settle", job) as load:
            time.sleep(WARM_S)
            rate, cores = _window(scene, running, engine, load, seconds)
            found = load.result(60)
        if found["refused"]:
            raise RuntimeError(f"{found['refused']} orders were refused, the first: {found['first_refusal']}")
        extra: dict[str, Extra] = {"hub_cores": cores, "load_cpu_s": round(float(str(found["cpu_s"])), 1)}
        return Figure(rate, extra={**extra, **_rows_per_order(engine, before)})


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


def _written(engine: sa.Engine) -> tuple[int, int, int]:
    """Rows inserted, updated, deleted in this database until now, as the server counts them (within a second)."""
    time.sleep(1.5)
    with engine.connect() as conn:
        row = conn.exec_driver_sql(
            "SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del) FROM pg_stat_user_tables"
        ).one()
    return int(row[0]), int(row[1]), int(row[2])


def _rows_per_order(engine: sa.Engine, before: tuple[int, int, int]) -> dict[str, Extra]:
    after, settled = _written(engine), max(1, _settled(engine))
    names = ("rows_per_order", "updates_per_order", "deletes_per_order")
    return {name: round((b - a) / settled, 2) for name, a, b in zip(names, before, after, strict=True)}
