"""Control groups of either version and their mix, on made-up trees: every host shows only one of them."""

import os
from pathlib import Path

from yunhe.site.drivers.process import cgroups

HYBRID_MOUNTS = """\
30 24 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
33 24 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
HYBRID_OWN = "4:memory:/user/me\n3:cpu,cpuacct:/\n2:pids:/user\n1:name=systemd:/x\n0::/svc\n"


def v2_tree(root: Path) -> Path:
    own = root / "own"
    own.mkdir()
    (own / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (own / "cgroup.procs").write_text("1\n2\n")
    return own


def test_own_groups_of_a_mixed_host() -> None:
    folders = cgroups.own_folders(HYBRID_MOUNTS, HYBRID_OWN)
    assert folders == {
        "memory": Path("/sys/fs/cgroup/memory/user/me"),
        "cpu": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "pids": Path("/sys/fs/cgroup/pids/user"),
        "": Path("/sys/fs/cgroup/unified/svc"),
    }


def test_own_group_in_a_container_that_mounts_a_part_of_the_tree() -> None:
    mounts = "33 24 0:29 /docker/abc /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw\n"
    assert cgroups.own_folders(mounts, "0::/docker/abc/inner\n") == {"": Path("/sys/fs/cgroup/inner")}


def test_version_2_limits_and_figures(tmp_path: Path) -> None:
    layout = cgroups.layout_in({"": v2_tree(tmp_path)}, "site")
    assert layout is not None and layout.v2_limits and layout.text == "cgroup v2"
    base = tmp_path / "own" / "site"
    assert (tmp_path / "own" / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (base / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    for name in ("memory.swap.max", "cgroup.kill"):
        (base / name).touch()
    group = layout.lease("x", 1 << 20, 1_500, 64)
    assert group["dirs"] == [f"{base}/x"]
    assert dict(group["limits"]) == {
        f"{base}/x/memory.max": "1048576",
        f"{base}/x/cpu.max": "150000 100000",
        f"{base}/x/pids.max": "64",
        f"{base}/x/memory.swap.max": "0",
    }
    assert group["oom"] == (f"{base}/x/memory.events", "oom_kill ")
    assert group["cpu"] == (f"{base}/x/cpu.stat", "usage_usec ", 1_000)
    assert group["kill"] == f"{base}/x/cgroup.kill"
    cgroups.share_limits(layout, 1 << 30, 250)
    assert (base / "memory.max").read_text() == str(1 << 30)
    assert (base / "cpu.max").read_text() == "25000 100000"


def test_an_agent_alone_in_its_group_moves_down_to_free_it(tmp_path: Path) -> None:
    own = v2_tree(tmp_path)
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert cgroups.layout_in({"": own}, "site") is not None
    assert (own / "agent" / "cgroup.procs").read_text() == str(os.getpid())


def test_version_1_alone_and_mixed(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("memory", "cpu", "cpuacct", "pids")}
    for folder in folders.values():
        folder.mkdir()
    alone = cgroups.layout_in(folders, "site")
    assert alone is not None and alone.v2 is None
    group = alone.lease("x", 1 << 20, 2, 8)
    assert len(group["dirs"]) == 4 and group["kill"] is None
    assert group["cpu"] == (f"{tmp_path}/cpuacct/site/x/cpuacct.usage", "", 1_000_000)
    assert (f"{tmp_path}/cpu/site/x/cpu.cfs_quota_us", "1000") in group["limits"], "the kernel's smallest quota"
    unified = tmp_path / "unified"
    unified.mkdir()
    (unified / "cgroup.controllers").write_text("\n")
    mixed = cgroups.layout_in({**folders, "": unified}, "site")
    assert mixed is not None and mixed.v2 == unified / "site" and not mixed.v2_limits
    assert mixed.lease("x", 1, 1, 1)["dirs"][-1] == f"{unified}/site/x"


def test_a_host_without_what_is_needed_gives_no_layout(tmp_path: Path) -> None:
    assert cgroups.layout_in({}, "site") is None
    assert cgroups.layout_in({"memory": tmp_path / "gone", "cpu": tmp_path, "pids": tmp_path}, "site") is None
    own = v2_tree(tmp_path)
    (own / "cgroup.subtree_control").mkdir()  # writing it fails, as the kernel does for a group with processes
    assert cgroups.layout_in({"": own}, "site") is None
