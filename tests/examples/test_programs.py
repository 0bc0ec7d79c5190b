"""Every program of the examples runs here by itself, to the end that its order states."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.law.sources import ROOT

EXAMPLES = ROOT / "examples"

# What the program's last line says when it is right.
SUCCEED = {
    "compression": "lzma",
    "digits": "accuracy 0.9",
    "image_filter": "slope of the plane 5.000",
    "linear_solve": "heat equation on 128 x 128",
    "option_pricing": "put: 10.5",
    "pagerank": "  ",
    "pi_gang": "pi = 3.14",
    "primes": "664,579 primes",
    "sweep": "task 19: r 4.00, exponent +0.69",
    "text_index": "'garbage': in 6 documents",
    "three_bodies": "period 3",
}
# These have a test of their own below.
OTHERWISE = {"check_readings", "collatz_records", "memory_hog", "train_large_model"}


def start(program: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    shutil.copy(EXAMPLES / "programs" / f"{program}.py", folder)
    for data in (EXAMPLES / "data").iterdir():
        shutil.copy(data, folder)
    return subprocess.Popen(
        [sys.executable, f"{program}.py"],
        cwd=folder,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(program: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    with start(program, folder, **environment) as process:
        out, err = process.communicate(timeout=90)
    return process.returncode, out, err


def test_no_program_is_forgotten() -> None:
    assert {path.stem for path in (EXAMPLES / "programs").glob("*.py")} == set(SUCCEED) | OTHERWISE


@pytest.mark.parametrize("program", sorted(SUCCEED))
def test_it_succeeds_and_is_light(program: str, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    status, out, err = run(program, tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (status, err) == (0, "")
    assert SUCCEED[program] in out.splitlines()[-1]
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 6


def test_every_task_of_the_sweep_succeeds(tmp_path: Path) -> None:
    for index in range(20):
        status, out, _ = run("sweep", tmp_path, YUNHE_TASK_INDEX=str(index))
        assert (status, out.split(":")[0]) == (0, f"task {index}")


def test_two_ranks_join_their_results(tmp_path: Path) -> None:
    first = start("pi_gang", tmp_path, YUNHE_RANK="0", YUNHE_SIZE="2")
    second = start("pi_gang", tmp_path, YUNHE_RANK="1", YUNHE_SIZE="2")
    with first, second:
        out, _ = first.communicate(timeout=90)
        other, _ = second.communicate(timeout=90)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "from 2 ranks" in out
    assert other == "rank 1 of 2 is done\n"


def test_images_are_whole(tmp_path: Path) -> None:
    run("image_filter", tmp_path)
    for name in ("blurred.pgm", "edges.pgm"):
        header, pixels = (tmp_path / name).read_bytes().split(b"\n255\n", 1)
        assert header == b"P5\n960 640"
        assert len(pixels) == 960 * 640


def test_a_broken_reading_ends_with_3_and_its_line(tmp_path: Path) -> None:
    status, out, err = run("check_readings", tmp_path)
    assert (status, out) == (3, "")
    assert "stations.csv, line 42" in err


def test_the_long_search_goes_on_until_it_is_stopped(tmp_path: Path) -> None:
    with start("collatz_records", tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2 takes 1 steps\n"
        assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=10) == -15


def test_the_memory_hog_passes_its_orders_limit(tmp_path: Path) -> None:
    status, out, _ = run("memory_hog", tmp_path)
    assert status == 0
    assert out.splitlines()[-1] == "512 MiB"


def test_the_large_model_does_not_pass_for_done(tmp_path: Path) -> None:
    status, out, _ = run("train_large_model", tmp_path)
    assert status == 1
    assert "20 PFLOPS" in out
