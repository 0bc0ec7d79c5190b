"""Sites that claim more than they do, against the hub that counts the time: every liar is caught, no honest one is."""

import base64
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.agent import FakeAgent, cpu_pool
from tests.hub.conftest import FakeClock
from tests.hub.running import running_hub
from tests.hub.world import SiteDouble, World
from yunhe.core import chain
from yunhe.core.demand import Precision
from yunhe.core.placement.sizing import trusted_rate
from yunhe.core.policy import Policy
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.catalogue.records import PoolRecord
from yunhe.hub.dispatch import claims, turns
from yunhe.hub.dispatch.claims import ClaimState
from yunhe.hub.orders import outbox
from yunhe.hub.platform.context import Platform
from yunhe.wire.link import Certificate, CertifyNow, PoolReport, Proof, ProveNow, RateReport

GFLOPS = 10**9
SLOW = 10**8  # of small test machines: the chain is really computed
FP64 = Precision.FP64
SEEDS = range(5)


def pool_of(fp64: int, chip: str = "unknown", name: str = "cpu") -> PoolReport:
    rates = (RateReport(precision=FP64, measured_flops=fp64),)
    return cpu_pool().model_copy(update={"rates": rates, "chip": chip, "name": name})


def certificate(*pools: PoolReport) -> Certificate:
    return Certificate(seq=0, tested_utc_ms=1, tier=2, isolation="", software="", pools=pools)


def solved(site_id: str, asked: ProveNow) -> Proof:
    """The right answer of a site."""
    key = turns.chain_key(asked.challenge, site_id, asked.pool)
    what = chain.Challenge(key, asked.precision.value, asked.n, asked.width, asked.steps)
    found = chain.answer(what, chain.run(what))
    texts = [base64.b64encode(part).decode() for part in (found.digests, found.columns)]
    return Proof(seq=0, challenge=asked.challenge, digests=texts[0], columns=texts[1])


def flop_of(asked: ProveNow) -> int:
    return 2 * asked.n * asked.n * asked.width * asked.steps


@dataclass
class Court:
    """A hub whose time is the test's, and sites at it."""

    world: World
    asked: list[ProveNow] = field(default_factory=list)

    def certify(self, site: SiteDouble, *pools: PoolReport) -> None:
        site.poll(certificate(*pools))

    def give_turn(self, site: SiteDouble) -> ProveNow | CertifyNow | None:
        """The hub's watch looks once; what it tells the site."""
        settings, now_ms = self.world.platform.settings, self.world.clock.now_ms()
        site.poll()  # the hub hears of it
        with self.world.platform.db.reading() as conn:
            waiting = turns.candidates(conn, catalogue.contacts(conn), now_ms, settings)
        self.world.do(lambda tx: turns.give(tx, waiting, settings))
        with self.world.platform.db.reading() as conn:
            told = outbox.after(conn, site.id, site.applied_seq, None)
        found = [item for item in told if isinstance(item, ProveNow | CertifyNow)]
        return found[-1] if found else None

    def challenge(self, site: SiteDouble) -> ProveNow:
        asked = self.give_turn(site) or self.give_turn(site)  # the first look may only note that time ran out
        assert isinstance(asked, ProveNow)
        self.asked.append(asked)
        return asked

    def answer(self, site: SiteDouble, proof: Proof, after_ms: int) -> None:
        """The answer comes so long after the challenge, and is judged."""
        self.world.clock.ms += after_ms
        site.poll(proof)
        settings = self.world.platform.settings
        with self.world.platform.db.reading() as conn:
            rows = turns.unchecked(conn)
        for row in rows:
            verdict = turns.check(row, settings)
            for _ in range(2):  # the second time changes nothing
                self.world.do(partial(turns.conclude, challenge=row.challenge, verdict=verdict, settings=settings))

    def pool(self, site: SiteDouble, name: str = "cpu") -> PoolRecord:
        with self.world.platform.db.reading() as conn:
            return catalogue.pools_by_id(conn, [f"{site.id}:{name}"])[f"{site.id}:{name}"]

    def claim(self, site: SiteDouble) -> claims.Claim:
        with self.world.platform.db.reading() as conn:
            (found,) = claims.of_site(conn, site.id)
        return found

    def counts_for(self, site: SiteDouble) -> int | None:
        """What a round takes the FP64 rate of one core for."""
        pools = {pool.id: pool for pool in self.world.view().snapshot.supply.pools}
        return trusted_rate(pools[f"{site.id}:cpu"], FP64, Policy())


@pytest.fixture
def court(platform: Platform, clock: FakeClock) -> Court:
    return Court(World(platform, clock))


def work_ms(asked: ProveNow, flops: int) -> int:
    return flop_of(asked) * 1000 // flops


# --- honest sites ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_an_honest_site_on_a_busy_machine_far_away_is_believed(court: Court, seed: int) -> None:
    dice = random.Random(seed)
    rate = dice.randint(3, 9) * SLOW
    site = court.world.site("north")
    court.certify(site, pool_of(rate))
    assert court.pool(site).trust_milli == 600 and "not shown yet" in court.pool(site).trust_note
    assert court.counts_for(site) == rate * 600 // 1000
    while court.claim(site).due_ms is not None:  # a short test may say nothing; then a longer one does
        asked = court.challenge(site)
        slowed = dice.uniform(1.0, 1.45) * work_ms(asked, rate) + dice.uniform(100, 2_000)
        court.answer(site, solved(site.id, asked), round(slowed))
    assert court.claim(site).state is ClaimState.PROVEN
    assert (court.pool(site).trust_milli, court.pool(site).trust_note) == (1000, "")
    assert court.counts_for(site) == rate


def test_one_bad_moment_is_not_held_against_a_site(court: Court) -> None:
    site = court.world.site("north")
    court.certify(site, pool_of(6 * SLOW))
    first = court.challenge(site)
    court.answer(site, solved(site.id, first), 3 * work_ms(first, 6 * SLOW))
    second = court.challenge(site)
    assert second.challenge != first.challenge and second.steps >= 2 * first.steps
    court.answer(site, solved(site.id, second), work_ms(second, 6 * SLOW) + 700)
    assert court.claim(site).state is ClaimState.PROVEN and court.pool(site).trust_milli == 1000


# --- cheats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_twice_the_rate_is_caught_and_counts_as_what_the_hub_saw(court: Court, seed: int) -> None:
    dice = random.Random(seed)
    rate = dice.randint(2, 5) * SLOW
    site = court.world.site("north")
    court.certify(site, pool_of(2 * rate))
    for _ in range(court.world.platform.settings.certify_tries):
        assert court.claim(site).due_ms is not None
        asked = court.challenge(site)
        court.answer(site, solved(site.id, asked), work_ms(asked, rate) + dice.randint(50, 300))
    pool = court.pool(site)
    assert court.claim(site).state is ClaimState.SLOWER and "the hub saw" in pool.trust_note
    assert (court.counts_for(site) or 0) <= 1.3 * rate and pool.trust_milli >= 450
    assert court.give_turn(site) is None  # until the next test


@pytest.mark.parametrize("seed", SEEDS)
def test_a_result_borrowed_from_another_site_is_refuted(court: Court, seed: int) -> None:
    lender, cheat = court.world.site("north"), court.world.site("south")
    court.certify(cheat, pool_of((3 + seed) * SLOW))
    asked = court.challenge(cheat)
    # The strong friend even computes the very challenge that the cheat was given, as its own.
    court.answer(cheat, solved(lender.id, asked), work_ms(asked, 90 * SLOW))
    pool = court.pool(cheat)
    assert court.claim(cheat).state is ClaimState.REFUTED
    assert (pool.trust_milli, court.counts_for(cheat)) == (0, None) and pool.trust_note.startswith("fp64: ")


@pytest.mark.parametrize("seed", SEEDS)
def test_an_old_result_is_refuted_under_the_new_name_and_unheard_under_its_own(court: Court, seed: int) -> None:
    site = court.world.site("north")
    rate = (3 + seed) * SLOW
    court.certify(site, pool_of(rate))
    asked = court.challenge(site)
    old = solved(site.id, asked)
    court.answer(site, old, work_ms(asked, rate))
    assert court.claim(site).state is ClaimState.PROVEN

    court.certify(site, pool_of(10 * rate))
    again = court.challenge(site)
    court.answer(site, old, 100)  # names the challenge of then
    assert court.claim(site).state is ClaimState.UNPROVEN and court.pool(site).trust_milli == 600
    court.answer(site, old.model_copy(update={"challenge": again.challenge}), 100)
    assert court.claim(site).state is ClaimState.REFUTED and court.pool(site).trust_milli == 0


def refuted(court: Court, name: str, chip: str = "unknown") -> SiteDouble:
    """A site with a pool `a` whose claim was refuted."""
    site = court.world.site(name)
    court.certify(site, pool_of(3 * SLOW, chip, "a"))
    asked = court.challenge(site)
    court.answer(site, solved("another-site", asked), 100)
    assert court.pool(site, "a").trust_milli == 0
    return site


@pytest.mark.parametrize("chip", ["unknown", "another"])
def test_a_new_name_is_no_new_start(court: Court, chip: str) -> None:
    site = refuted(court, "north")
    for name in ("b", "c", "b", "d"):
        court.certify(site, pool_of(3 * SLOW, chip, name))
        pool = court.pool(site, name)
        assert (pool.trust_milli, "after one that was refuted" in pool.trust_note) == (0, True), name
    [(kept,)] = court.world.rows("SELECT count(*) FROM rate_claim")
    assert kept == 2  # however often it is called something else
    asked = court.challenge(site)
    court.answer(site, solved(site.id, asked), work_ms(asked, 3 * SLOW))
    assert court.pool(site, "d").trust_milli == 1000
    court.certify(site, pool_of(3 * SLOW, chip, "d"), pool_of(3 * SLOW, chip, "e"))
    # Shown by the chip that it was refuted of: forgotten. By another: who lied once shows what it says.
    assert court.pool(site, "e").trust_milli == (600 if chip == "unknown" else 0)


def test_a_rate_that_is_left_out_for_once_is_no_new_start(court: Court) -> None:
    site = refuted(court, "north")
    fp32 = (RateReport(precision=Precision.FP32, measured_flops=SLOW),)
    court.certify(site, pool_of(SLOW, name="a").model_copy(update={"rates": fp32}))
    assert court.pool(site, "a").trust_milli == 600  # what is claimed now was not refuted
    court.certify(site, pool_of(3 * SLOW, name="a"))
    assert court.pool(site, "a").trust_milli == 0


def test_silence_mends_nothing(court: Court) -> None:
    site = refuted(court, "north")
    court.certify(site, pool_of(3 * SLOW, name="a"))
    settings = court.world.platform.settings
    for _ in range(settings.certify_tries):
        court.challenge(site)
        court.world.clock.ms += settings.certify_turn_ms
    court.give_turn(site)
    assert court.pool(site, "a").trust_milli == 0


# --- cards, whose libraries take long to start ------------------------------------------------------------------------


def card_of(rate: int) -> PoolReport:
    return pool_of(rate, name="card").model_copy(update={"kind_of_unit": "card", "stack": "cuda"})


def ready(asked: ProveNow) -> Proof:
    return Proof(seq=0, challenge=asked.challenge, ready=True)


def revealed(court: Court, site: SiteDouble, first: ProveNow) -> ProveNow:
    with court.world.platform.db.reading() as conn:
        told = outbox.after(conn, site.id, 0, None)
    found = [item for item in told if isinstance(item, ProveNow)][-1]
    assert (found.after, found.hold) == (first.challenge, False) and found.challenge != first.challenge
    assert (found.pool, found.steps, found.width) == (first.pool, first.steps, first.width)
    return found


def test_the_time_of_a_card_counts_from_what_comes_when_it_is_ready(court: Court) -> None:
    rate = 6 * GFLOPS
    site = court.world.site("north")
    court.certify(site, card_of(rate))
    first = court.challenge(site)
    assert first.hold
    court.answer(site, solved(site.id, first), 1_000)  # it cannot be done before: this is not what counts
    assert court.claim(site).state is ClaimState.UNPROVEN and court.claim(site).due_ms is not None
    court.answer(site, ready(first), 200_000)
    counts = revealed(court, site, first)
    court.answer(site, ready(first), 0)  # the word may come twice
    proof = solved(site.id, counts)
    court.answer(site, proof, work_ms(counts, rate) + 900)
    assert court.claim(site).state is ClaimState.PROVEN and court.pool(site, "card").trust_milli == 1000


def test_readiness_lends_no_time_to_the_work(court: Court) -> None:
    rate = 3 * GFLOPS
    site = court.world.site("north")
    court.certify(site, card_of(2 * rate))
    for _ in range(court.world.platform.settings.certify_tries):
        first = court.challenge(site)
        court.answer(site, ready(first), 200_000)
        counts = revealed(court, site, first)
        court.answer(site, solved(site.id, counts), work_ms(counts, rate) + 200)
    assert court.claim(site).state is ClaimState.SLOWER


def test_an_answer_to_the_first_challenge_is_wrong_for_the_second(court: Court) -> None:
    site = court.world.site("north")
    court.certify(site, card_of(6 * GFLOPS))
    first = court.challenge(site)
    early = solved(site.id, first)
    court.answer(site, ready(first), 1_000)
    counts = revealed(court, site, first)
    court.answer(site, early.model_copy(update={"challenge": counts.challenge}), 10)
    assert court.claim(site).state is ClaimState.REFUTED


def test_who_never_gets_ready_keeps_the_turn_no_longer_than_the_hub_says(court: Court) -> None:
    site, other = court.world.site("north"), court.world.site("south")
    court.certify(site, card_of(6 * GFLOPS))
    court.challenge(site)
    settings = court.world.platform.settings
    court.certify(other, pool_of(3 * SLOW))
    court.world.clock.ms += settings.certify_ready_ms - 1
    assert court.give_turn(other) is None
    court.world.clock.ms += 1
    for _ in range(3):
        court.give_turn(other)
    assert court.claim(site).tries >= 1


def test_another_site_cannot_answer_for_it(court: Court) -> None:
    site, other = court.world.site("north"), court.world.site("south")
    court.certify(site, pool_of(3 * SLOW))
    asked = court.challenge(site)
    court.answer(other, solved(site.id, asked), 10)
    assert court.claim(site).state is ClaimState.UNPROVEN


def test_half_of_the_columns_are_not_enough() -> None:
    what = chain.Challenge(b"key", "fp32", chain.N, chain.WIDTH, 2)
    x = chain.run(what)
    assert chain.check(what, chain.answer(what, x), b"secret") == ""
    lazy = x.copy()
    lazy[:, : chain.WIDTH // 2] = 1
    assert chain.check(what, chain.answer(what, lazy), b"secret") == "a product that is wrong"
    honest = chain.answer(what, x)
    moved = replace_columns(honest)
    assert "digest" in chain.check(what, moved, b"secret")
    assert "size" in chain.check(what, chain.Answer(b"", b""), b"secret")
    assert chain.check(what._replace(steps=3), honest, b"secret")


def replace_columns(given: chain.Answer) -> chain.Answer:
    return chain.Answer(given.digests, given.columns[::-1])


def test_more_than_the_chip_can_do_is_refuted_at_once(court: Court) -> None:
    site = court.world.site("north")
    peak = 3_690_000_000_000 // 96 * 2  # an EPYC 9654's core at its base clock, doubled for the highest
    court.certify(site, pool_of(peak + GFLOPS, chip="epyc-9654"))
    assert court.claim(site).state is ClaimState.REFUTED and court.pool(site).trust_milli == 0
    assert court.give_turn(site) is None
    court.certify(site, pool_of(peak - GFLOPS, chip="epyc-9654"))  # possible, and to be shown
    assert court.pool(site).trust_milli == 0
    assert court.claim(site).due_ms is not None


def test_what_lies_behind_another_hub_is_not_believed_for_saying_so(court: Court) -> None:
    site = court.world.site("north")
    court.certify(site, pool_of(6 * SLOW).model_copy(update={"hubs": ("hub_0123456789abcdef",)}))
    assert court.pool(site).trust_milli == 600
    settings = court.world.platform.settings
    for _ in range(settings.certify_tries):
        asked = court.challenge(site)
        court.answer(site, Proof(seq=0, challenge=asked.challenge, error="no numpy there"), 100)
    assert court.claim(site).state is ClaimState.UNPROVEN and court.pool(site).trust_milli == 600
    assert court.give_turn(site) is None


def test_what_lies_behind_another_hub_is_shown_like_anything_else(court: Court) -> None:
    site = court.world.site("north")
    rate = 6 * SLOW
    court.certify(site, pool_of(rate).model_copy(update={"hubs": ("hub_0123456789abcdef",)}))
    asked = court.challenge(site)
    court.answer(site, solved(site.id, asked), work_ms(asked, rate))
    assert court.claim(site).state is ClaimState.PROVEN and court.pool(site).trust_milli == 1000


def test_many_small_steps_are_no_way_up(court: Court) -> None:
    site = court.world.site("north")
    rate = 4 * SLOW
    court.certify(site, pool_of(rate))
    asked = court.challenge(site)
    court.answer(site, solved(site.id, asked), work_ms(asked, rate))
    court.certify(site, pool_of(rate * 105 // 100))
    assert court.pool(site).trust_milli == 1000  # no two tests come out the same
    for _ in range(12):
        court.certify(site, pool_of(court.claim(site).claimed_flops * 109 // 100))
    assert court.claim(site).state is ClaimState.UNPROVEN and court.pool(site).trust_milli == 600


def test_a_new_certificate_is_no_new_start(court: Court) -> None:
    """Who cannot show a rate does not put off the judgement by claiming it again before each try."""
    site = court.world.site("north")
    settings = court.world.platform.settings
    for _ in range(settings.certify_tries):
        court.certify(site, pool_of(5 * SLOW))
        court.challenge(site)
        court.world.clock.ms += settings.certify_turn_ms
    court.give_turn(site)
    assert court.claim(site).state is ClaimState.SILENT and court.pool(site).trust_milli == 300


@pytest.mark.parametrize("text", ["\u00e9", "a", "=", "\0", "A" * 400_000])
def test_an_answer_that_is_none_is_wrong(court: Court, text: str) -> None:
    site = court.world.site("north")
    court.certify(site, pool_of(5 * SLOW))
    asked = court.challenge(site)
    court.answer(site, Proof(seq=0, challenge=asked.challenge, digests=text, columns=text), 100)
    assert court.claim(site).state is ClaimState.REFUTED


def test_no_answer_is_no_proof(court: Court) -> None:
    site = court.world.site("north")
    court.certify(site, pool_of(5 * SLOW))
    settings = court.world.platform.settings
    for attempt in range(settings.certify_tries):
        asked = court.challenge(site)
        if attempt == 1:  # an error, told
            court.answer(site, Proof(seq=0, challenge=asked.challenge, error="no numpy there"), 100)
        else:
            court.world.clock.ms += settings.certify_turn_ms
    court.give_turn(site)
    assert court.give_turn(site) is None
    assert court.claim(site).state is ClaimState.SILENT and court.pool(site).trust_milli == 300


# --- tests again ----------------------------------------------------------------------------------------------------


def test_a_drop_is_flagged_and_recovers_after_a_good_test(court: Court) -> None:
    site = court.world.site("north")

    def test_of(rate: int) -> PoolRecord:
        court.certify(site, pool_of(rate))
        asked = court.challenge(site)
        court.answer(site, solved(site.id, asked), work_ms(asked, rate))
        return court.pool(site)

    assert test_of(10 * SLOW).trust_milli == 1000
    fallen = test_of(6 * SLOW)
    assert fallen.trust_milli == 600 and fallen.trust_note == "fp64 fell to 60% of the last test"
    assert court.counts_for(site) == 360_000_000
    assert test_of(6 * SLOW).trust_milli == 1000  # as the last time
    assert test_of(10 * SLOW).trust_milli == 1000


def test_sites_are_tested_again_when_it_is_time_and_there_is_room(court: Court) -> None:
    world, settings = court.world, court.world.platform.settings
    world.organisation("lab")
    site = world.site("north", cores=4)
    court.certify(site, pool_of(3 * SLOW))
    asked = court.challenge(site)
    court.answer(site, solved(site.id, asked), work_ms(asked, 3 * SLOW))
    assert court.give_turn(site) is None
    world.submit("lab", requirement={"cores": 4, "memory": "64MiB"}, budget="50CNY")
    assert world.commit(world.plan()) == 1
    world.clock.ms += settings.certify_interval_ms * 6 // 5
    assert court.give_turn(site) is None  # all cores are let
    site.run()
    assert isinstance(court.give_turn(site), CertifyNow)
    assert court.give_turn(site) is None  # one turn at a time


def test_those_who_cannot_be_tested_now_keep_nobody_waiting(court: Court) -> None:
    world = court.world
    silent = world.site("north", cores=4)
    court.certify(silent, *(pool_of(SLOW, name=f"p{n}") for n in range(turns.LOOKED_AT + 1)))
    world.clock.ms += world.platform.settings.silent_after_ms + 1
    site = world.site("south", cores=4)
    court.certify(site, pool_of(SLOW))
    assert isinstance(court.give_turn(site), ProveNow)


# --- over the wire, in real time ------------------------------------------------------------------------------------


@dataclass
class Machine:
    """An agent whose cores do `flops`; it says `says` times as much, and answers challenges by `cheat`."""

    agent: FakeAgent
    flops: int
    cheat: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)  # to measure again

    def run(self) -> None:
        while not self.stop.is_set():
            for item in self.agent.poll(wait_ms=300).instructions:
                if isinstance(item, ProveNow):
                    proof = solved("another-site" if self.cheat == "borrows" else self.agent.site_id, item)
                    if self.cheat != "borrows":
                        self.stop.wait(flop_of(item) / self.flops)
                    self.agent.poll([proof])
                elif isinstance(item, CertifyNow):
                    self.asked.set()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    yield f"sqlite:///{tmp_path}/hub.db"


def test_a_real_hub_finds_the_liars_out(url: str, tmp_path: Path) -> None:
    settings = {
        "certify_prove_ms": 400,
        "certify_allowance_ms": 130,
        "certify_tries": 3,
        "certify_turn_ms": 5_000,
        "poll_hold_ms": 1_000,
    }
    with running_hub(url, tmp_path / "data", **settings) as hub:
        true, twice = 5 * SLOW, 10 * SLOW
        machines: list[Machine] = []
        threads: list[threading.Thread] = []
        for name, says, cheat in (("honest", true, ""), ("twice", twice, ""), ("borrows", twice, "borrows")):
            machines.append(Machine(hub.site(name, pools=(pool_of(says),)), true, cheat))
            threads.append(threading.Thread(target=machines[-1].run, daemon=True))
            threads[-1].start()
        try:
            wanted = {"honest": (1000, 1000), "twice": (300, 620), "borrows": (0, 0)}
            until = threading.Event()
            for _ in range(120):
                pools = {pool["site_id"]: pool for pool in hub.operator.get("/v1/pools").json()["pools"]}
                found = {m.agent.site_id: pools[m.agent.site_id] for m in machines}
                if all(
                    wanted[name.rsplit("-", 1)[0]][0] <= pool["trust_milli"] <= wanted[name.rsplit("-", 1)[0]][1]
                    and "not shown yet" not in pool["trust_note"]
                    for name, pool in found.items()
                ):
                    break
                until.wait(0.25)
            else:
                raise AssertionError(found)
            again = f"/v1/sites/{machines[0].agent.site_id}/certify"
            assert hub.customer().post(again).status_code == 403
            machines[0].asked.clear()
            shown = hub.operator.post(again).json()
            assert shown["retest_utc_ms"] and machines[0].asked.wait(20)
        finally:
            for machine, thread in zip(machines, threads, strict=True):
                machine.stop.set()
                thread.join(10)
