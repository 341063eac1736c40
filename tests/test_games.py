# SPDX-License-Identifier: MIT
"""The programs of the Benchmarks Game are right: sequential, with snakefish and with a Pool."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest

from benchmarks.b11_programs import GAMES
from benchmarks.games import (
    binary_trees,
    fannkuch_redux,
    fasta,
    k_nucleotide,
    mandelbrot,
    regex_redux,
    spectral_norm,
)


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("how", ["ours", "with_pool"])
def test_parallel_program_gives_what_the_sequential_one_gives(name: str, how: str) -> None:
    """Whoever does the work, the result is the same."""
    program: Any = importlib.import_module(f"benchmarks.games.{name}")
    given = program.make(program.SIZES["test"], seed=1)
    assert getattr(program, how)(given) == program.sequential(given)


class TestBinaryTrees:
    def test_depth_10_gives_the_published_output(self) -> None:
        """All lines are those that the game shows as an example."""
        assert binary_trees.sequential(10).splitlines() == [
            "stretch tree of depth 11\t check: 4095",
            "1024\t trees of depth 4\t check: 31744",
            "256\t trees of depth 6\t check: 32512",
            "64\t trees of depth 8\t check: 32704",
            "16\t trees of depth 10\t check: 32752",
            "long lived tree of depth 10\t check: 2047",
        ]


class TestFannkuchRedux:
    def test_7_elements_give_the_published_checksum_and_flips(self) -> None:
        """The checksum is 228, and the most flips are 16."""
        assert fannkuch_redux.sequential(7) == (228, 16)

    def test_permutations_go_on_from_any_number(self) -> None:
        """The order that begins at a number is the rest of the whole order."""
        whole = [tuple(p) for p in fannkuch_redux.permutations(5, 0)]
        assert len(set(whole)) == math.factorial(5)
        for number in range(len(whole)):
            rest = [tuple(p) for p in fannkuch_redux.permutations(5, number)]
            assert rest == whole[number:]


class TestFasta:
    def test_sequences_begin_as_published(self) -> None:
        """The first line of each of the three is that of the example output."""
        lines = b"".join(fasta.sequential(1000)).decode().splitlines()
        begins = [number + 1 for number, line in enumerate(lines) if line.startswith(">")]
        assert [lines[number] for number in begins] == [
            "GGCCGGGCGCGGTGGCTCACGCCTGTAATCCCAGCACTTTGGGAGGCCGAGGCGGGCGGA",
            "cttBtatcatatgctaKggNcataaaSatgtaaaDcDRtBggDtctttataattcBgtcg",
            "aacacttcaccaggtatcgtgaaggctcaagattacccagagaacctttgcaatataaga",
        ]

    def test_sequences_are_as_long_as_they_should(self) -> None:
        """They have two, three and five times as many letters as the size."""
        _, *sequences = b"".join(fasta.sequential(1001)).decode().split(">")
        letters = ["".join(sequence.splitlines()[1:]) for sequence in sequences]
        assert [len(text) for text in letters] == [2002, 3003, 5005]

    def test_seed_is_known_after_any_number_of_steps(self) -> None:
        """The map of many steps is what as many single steps are."""
        seed = fasta.SEED
        for steps in range(300):
            assert fasta.seed_after(steps) == seed
            seed = (seed * fasta.FACTOR + fasta.TERM) % fasta.MODULUS


class TestKNucleotide:
    def test_size_25000_gives_the_published_output(self) -> None:
        """Frequencies and counts are those of the example output."""
        lines = k_nucleotide.sequential(k_nucleotide.make(25_000, 0)).splitlines()
        assert lines[:6] == ["A 30.279", "T 30.113", "G 19.835", "C 19.773", "", "AA 9.161"]
        assert [line.split("\t")[0] for line in lines[-5:]] == ["1474", "459", "49", "1", "1"]


class TestMandelbrot:
    SIZE = 100

    def test_picture_is_of_the_set(self) -> None:
        """Each pixel, read from the packed rows, is what complex numbers say about its point."""
        rows = self.pixels()
        for y in range(self.SIZE):
            expected = "".join("01"[self.stays(x, y)] for x in range(self.SIZE))
            assert rows[y] == expected.ljust(104, "0")

    def test_area_of_the_set_is_known(self) -> None:
        """After 50 steps it is some per cent more than the 1.5066 of the set itself."""
        pixels = "".join(self.pixels()).count("1")
        assert 1.5066 < pixels * (2 / self.SIZE) ** 2 < 1.08 * 1.5066

    def pixels(self) -> list[str]:
        head, _, packed = mandelbrot.sequential(self.SIZE).partition(b"\n100 100\n")
        assert head == b"P4"
        return [
            "".join(f"{byte:08b}" for byte in packed[first : first + 13])
            for first in range(0, len(packed), 13)
        ]

    def stays(self, x: int, y: int) -> bool:
        point = complex(2.0 * x / self.SIZE - 1.5, 2.0 * y / self.SIZE - 1.0)
        z = 0j
        for _ in range(50):
            z = z * z + point
            if abs(z) > 2:
                return False
        return True


class TestRegexRedux:
    def test_size_10000_gives_the_published_counts(self) -> None:
        """The variants, and the lengths before the substitutions, are those of the example."""
        lines = regex_redux.sequential(regex_redux.make(10_000, 0)).splitlines()
        counts = [int(line.split()[1]) for line in lines[:9]]
        assert counts == [0, 3, 9, 8, 10, 3, 4, 3, 5]
        assert lines[9:12] == ["", "101745", "100000"]

    def test_size_50000_gives_the_published_lengths(self) -> None:
        """With the length after the substitutions, which the example for 10000 is too old for."""
        lines = regex_redux.sequential(regex_redux.make(50_000, 0)).splitlines()
        assert lines[10:] == ["508411", "500000", "273927"]


class TestSpectralNorm:
    def test_size_100_gives_the_published_norm(self) -> None:
        """It is 1.274219991."""
        assert spectral_norm.sequential(100) == "1.274219991"
