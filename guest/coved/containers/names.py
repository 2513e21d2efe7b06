"""Names for containers that were given none: an adjective and somebody who made the field what it is."""

from __future__ import annotations

import re
import secrets
from collections.abc import Container

from coved.errors import InvalidParameter

_VALID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")

_ADJECTIVES = (
    "able agile airy ample apt balmy bold brave breezy bright brisk calm candid canny careful cheery civil clear clever cosy crisp "
    "curious daring deft dewy eager earnest easy even fair fearless fine fleet fond frank fresh frosty gentle gifted glad golden "
    "good grand grateful handy happy hardy hearty helpful honest humble ideal jolly jovial keen kind lively loyal lucid lucky "
    "mellow merry mighty mild modest neat nimble noble open patient peaceful placid plucky polite proud prudent quick quiet ready "
    "regal robust rosy sage serene sharp shiny sincere smart snug sober solid sound spry stable steady stellar stout sunny sure "
    "swift tidy true trusty upbeat valiant vivid warm wise witty worthy zesty"
).split()

_SURNAMES = (
    "abel agnesi allen babbage backus bardeen bell bernoulli bohr boole borg carson cantor cerf church codd conway cook cray curie "
    "dijkstra dirac easley engelbart erdos euclid euler faraday fermat feynman floyd fourier franklin galileo galois gauss germain "
    "goedel goldberg goldwasser granville gray hamilton hamming hilbert hoare hopper huffman huygens hypatia jacquard joule karp "
    "kay keller kepler kilby kleene knuth kovalevskaya lagrange lamarr lamport laplace leibniz lempel liskov lovelace maxwell "
    "mccarthy mcculloch meitner mendel milner minsky mirzakhani moore naur newell newton nightingale noether noyce pascal perlis "
    "perlman planck poincare postel rabin ramanujan ritchie rivest sammet scott shannon shockley simon sparck stallman strachey "
    "tarjan tesla thompson torvalds turing viterbi wegener wilkes wirth wozniak yao ziv zuse"
).split()


def validate(name: str) -> str:
    """The name without its leading slash; raises InvalidParameter with Docker's text when it is not a name."""
    bare = name.removeprefix("/")
    if _VALID.fullmatch(bare) is None or len(bare) > 255:
        raise InvalidParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return bare


def generate(taken: Container[str]) -> str:
    """A name that is not ``taken``, such as ``calm_hopper``; a number follows once free pairs have become rare."""
    pick = secrets.choice
    for _ in range(6):
        name = f"{pick(_ADJECTIVES)}_{pick(_SURNAMES)}"
        if name not in taken:
            return name
    while True:
        name = f"{pick(_ADJECTIVES)}_{pick(_SURNAMES)}{secrets.randbelow(1_000_000)}"
        if name not in taken:
            return name
