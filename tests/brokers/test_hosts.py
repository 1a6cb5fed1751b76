"""The name of a host is asked again when it was not known, and never waited for for long."""

import socket
import threading

import pytest

from aftercommit.relay.brokers import hosts
from aftercommit.relay.brokers.hosts import same_host


@pytest.fixture
def names(monkeypatch):
    """Return what the resolver knows, and whom it was asked for."""
    names = {"asked": []}

    def resolve(host, _port):
        names["asked"].append(host)
        if host not in names:
            raise socket.gaierror
        return [(0, 0, 0, "", (address, 0)) for address in names[host]]

    monkeypatch.setattr(hosts, "_known", {})
    monkeypatch.setattr(hosts.socket, "getaddrinfo", resolve)
    return names


def test_a_name_that_was_not_known_is_asked_again(names, monkeypatch):
    names["one"] = ["192.0.2.1"]
    assert not same_host("one", "other")
    names["other"] = ["192.0.2.2", "192.0.2.1"]
    assert not same_host("one", "other")  # for two seconds
    monkeypatch.setattr(hosts, "_known", {"other": (0, hosts._known["other"][1])})
    assert same_host("one", "other")


def test_an_answer_is_remembered_for_a_while(names):
    names["one"] = names["other"] = ["192.0.2.1"]
    assert same_host("one", "other")
    assert same_host("other", "one")
    assert sorted(names["asked"]) == ["one", "other"]
    assert 0 < hosts._known["one"][0] < float("inf")


def test_an_address_that_has_moved_is_noticed(names):
    names["one"] = names["other"] = ["192.0.2.1"]
    assert same_host("one", "other")
    names["other"] = ["192.0.2.2"]
    hosts._known["other"] = (0, hosts._known["other"][1])
    assert not same_host("one", "other")


def test_the_last_answer_counts_while_there_is_none(names):
    names["one"] = names["other"] = ["192.0.2.1"]
    assert same_host("one", "other")
    del names["other"]
    hosts._known["other"] = (0, hosts._known["other"][1])
    assert same_host("one", "other")
    assert names["asked"].count("other") == 2


def test_a_resolver_that_is_silent_is_not_waited_for(names, monkeypatch):
    asked, over, ends = threading.Event(), threading.Event(), []

    def silent(*_args):
        asked.set()
        over.wait(10)
        ends.append(True)
        raise socket.gaierror

    monkeypatch.setattr(hosts.socket, "getaddrinfo", silent)
    monkeypatch.setattr(hosts, "SECONDS_TO_RESOLVE", 0.01)
    try:
        assert not same_host("localhost", "silent")
        assert asked.wait(30)
        assert ends == []
    finally:
        over.set()


def test_the_usual_names_of_this_host_are_never_asked_for(names):
    assert same_host("localhost", "127.0.0.1")
    assert same_host("any", "any")
    assert not same_host("localhost", "192.0.2.1")
    assert names["asked"] == ["192.0.2.1"]


def test_what_is_remembered_does_not_grow(names, monkeypatch):
    monkeypatch.setattr(hosts, "MOST_HOSTS", 3)
    for number in range(9):
        same_host("localhost", f"host{number}")
        assert len(hosts._known) <= 3
