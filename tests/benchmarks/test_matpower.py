"""Case files of power grids: what is read, what is left out as PowerModels does, what is refused and where."""

from io import StringIO
from math import radians

import pytest

from benchmarks.placement import matpower
from yunhe.core import errors
from yunhe.core.market.clearing import clear
from yunhe.core.market.network import Offer

CASE = """function mpc = three  % a comment
mpc.version = '2';
mpc.baseMVA = 100.0;
%% bus data
mpc.bus = [
	1	 3	 0.0	 0.0	 0.0	 0.0	 1;
	2	 1	 90.0	 30.0	 10.0	 5.0	 1;   % its shunt draws 10 MW
	7	 4	 50.0	 0.0	 0.0	 0.0	 1;
];
mpc.gen = [
	1	 0	 0	 9	 -9	 1	 100	 1	 200.0	 5.0;
	2	 0	 0	 9	 -9	 1	 100	 0	 500.0	 0.0;
	7	 0	 0	 9	 -9	 1	 100	 1	 500.0	 0.0;
];
mpc.gencost = [ 2 0 0 3 0.05 12.0 7.0; 2 0 0 2 1.0 0.0; 2 0 0 2 1.0 0.0; ];
mpc.branch = [
	1	 2	 0.03	 0.04	 0.1	 110	 0	 0	 0.95	 5.0	 1	 -30	 30;
	1	 2	 0.0	 0.1	 0.0	 0.0	 0	 0	 0	 0	 1	 0.0	 0.0;
	1	 2	 0.0	 0.1	 0.0	 50	 0	 0	 0	 0	 0	 -30	 30;
	1	 7	 0.0	 0.1	 0.0	 50	 0	 0	 0	 0	 1	 -30	 30;
];
"""


def read(text: str) -> matpower.Case:
    return matpower.read(StringIO(text), "three.m")


def test_a_case_becomes_a_network() -> None:
    case = read(CASE)
    assert [tuple(node) for node in case.network.nodes] == [("1", 0.0), ("2", 100.0)]
    assert case.network.offers == [Offer("gen 1", "1", 12.0, 200.0, 5.0, 0.05)]
    assert case.fixed_usd_per_h == 7.0
    one, two = case.network.lines
    assert one.susceptance == pytest.approx(100 * 0.04 / (0.03**2 + 0.04**2))  # neither tap nor shift
    assert (one.least, one.most) == (-110, 110)
    assert two.most == -two.least == pytest.approx(1000 * radians(60))  # no rate and no angle stated
    assert clear(case.network).cost == pytest.approx(1200 + 0.05 * 100**2, rel=1e-6)


def test_an_angle_limit_is_a_limit_of_the_flow() -> None:
    tight, _ = read(CASE.replace("1	 -30	 30;", "1	 -2	 1;", 1)).network.lines
    assert (tight.least, tight.most) == pytest.approx((-1600 * radians(2), 1600 * radians(1)))
    turned, _ = read(
        CASE.replace("0.03	 0.04", "0.0	 -0.04").replace("-30	 30;", "-2	 1;", 1)
    ).network.lines
    assert (turned.least, turned.most) == pytest.approx((2500 * -radians(1), 2500 * radians(2)))


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("90.0	 30.0", "much	 30.0", "three.m:7: bus.Pd"),
        ("90.0	 30.0", "nan	 30.0", "three.m:7: bus.Pd"),
        ("	1	 3	 0.0	 0.0	 0.0	 0.0	 1;", "	1	 3	 0.0;", "three.m:6: bus.Qd"),
        ("0.0	 0.1	 0.0	 0.0", "0.0	 0.0	 0.0	 0.0", "three.m:18: branch.x"),
        ("2 0 0 3 0.05", "1 0 0 3 0.05", "three.m:15: gencost.model"),
        ("2 0 0 3 0.05", "2 0 0 9 0.05", "three.m:15: gencost.n"),
        ("2 0 0 3 0.05", "2 0 0 4 0.1 0.05", "three.m:15: gencost.n"),
        (" 2 0 0 2 1.0 0.0; 2 0 0 2 1.0 0.0;", "", "three.m: gencost"),
        ("mpc.baseMVA = 100.0;", "", "three.m"),
        ("mpc.baseMVA = 100.0;", "mpc.baseMVA = 0;", "three.m: baseMVA"),
        ("mpc.baseMVA = 100.0;", "mpc.baseMVA = ;", "three.m: baseMVA"),
        (
            "	1	 7	 0.0	 0.1	 0.0	 50	 0	 0	 0	 0	 1	 -30	 30;\n];\n",
            "",
            "three.m: branch",
        ),
        ("mpc.gen = [", "mpc.dcline = [ 1 2 1; ];\nmpc.gen = [", "three.m:10: dcline.status"),
    ],
)
def test_bad_input_is_refused_with_line_and_field(old: str, new: str, where: str) -> None:
    assert old in CASE
    with pytest.raises(errors.InvalidInput) as caught:
        read(CASE.replace(old, new, 1))
    assert caught.value.field == where
