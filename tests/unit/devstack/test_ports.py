"""Ports: no two servers of a test run are given the same one."""

from itertools import combinations

import pytest

from devstack.ports import free_port, own_ports


def test_processes_of_a_test_run_share_no_port() -> None:
    ports = [set(own_ports(f"gw{number}")) for number in range(8)]
    assert not any(one & other for one, other in combinations(ports, 2))
    assert set().union(*ports) == set(own_ports(None))


def test_a_port_that_was_given_is_not_given_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server may not have taken it yet."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw7")
    given = [free_port() for _ in range(500)]
    assert len(set(given)) == len(given)
    assert set(given) <= set(own_ports("gw7"))


def test_a_preferred_port_is_given_if_it_is_free() -> None:
    port = free_port()
    assert free_port(port) == port
