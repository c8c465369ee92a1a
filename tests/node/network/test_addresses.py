"""Which addresses may be listened on, announced and joined through; what becomes of names."""

from __future__ import annotations

import ipaddress

import pytest
import trio

from hypercluster.node.errors import HostError, UnknownHost
from hypercluster.node.identity import address_of_peer, peer_of_key
from hypercluster.node.network.addresses import (
    MOST,
    announced,
    expand,
    joined_through,
    listened,
    parse,
    split_tcp,
    through,
)
from hypercluster.node.network.names import resolve
from hypercluster.node.network.reach import ANYWHERE, reach_of

PEER, OTHER = peer_of_key(b"\1" * 32), peer_of_key(b"\2" * 32)  # the names of tests are the same in every run
NODE = address_of_peer(PEER)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("/ip4/192.0.2.7/tcp/4001", "/ip4/192.0.2.7/tcp/4001"),
        ("/IP4/192.0.2.7/TCP/4001/", "/ip4/192.0.2.7/tcp/4001"),
        (" /ip6/FD00:0::1/tcp/1// ", "/ip6/fd00::1/tcp/1"),
        ("/dns4/Node.Example.Org./tcp/443", "/dns4/node.example.org/tcp/443"),
        ("/dns/localhost/tcp/4001", "/dns/localhost/tcp/4001"),
        ("/dns6/a_b.example/tcp/1", "/dns6/a_b.example/tcp/1"),
        ("/dns4/192.0.2.7/tcp/4001", "/ip4/192.0.2.7/tcp/4001"),
        ("/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4001"),
        ("/ip6/::1/tcp/4001", "/ip6/::1/tcp/4001"),
    ],
)
def test_i1_addresses_that_others_may_dial(text: str, plain: str) -> None:
    """I1: names and IPv6 are addresses like others, in one form."""
    assert announced(text) == plain


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/0.0.0.0/tcp/4001",
        "/ip4/0.1.2.3/tcp/4001",
        "/ip6/::/tcp/4001",
        "/ip6/::ffff:0.0.0.0/tcp/4001",
        "/dns4/0.0.0.0/tcp/4001",
        "/ip4/192.0.2.7/tcp/0",
        "/dns4/node.example.org/tcp/0",
        "/ip4/224.0.0.1/tcp/4001",
        "/ip6/ff02::1/tcp/4001",
        "/ip4/255.255.255.255/tcp/4001",
        "/ip4/250.1.1.1/tcp/4001",
        "/ip4/169.254.1.1/tcp/4001",
        "/ip6/fe80::1/tcp/4001",
        "/ip6/fe80::1%eth0/tcp/4001",
        "/dnsaddr/example.org",
        "nonsense",
        "",
        "   ",
        "/",
        "/ip4",
        "192.0.2.7:4001",
        "http://192.0.2.7:4001",
        "/ip4/192.0.2.7",
        "/ip4/192.0.2.7/udp/4001",
        "/ip4/192.0.2.7/tcp/",
        "/ip4/192.0.2.7/tcp/65536",
        "/ip4/192.0.2.7/tcp/-1",
        "/ip4/192.0.2.7/tcp/4001x",
        "/ip4/192.0.2.7/tcp/\u0664\u0660\u0660\u0661",
        "/ip4/192.0.2.7/tcp/4001/ws",
        "/ip4/192.0.2.7/tcp/4001/p2p/nonsense",
        f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}/p2p/{PEER}",
        "/ip4/999.0.2.7/tcp/4001",
        "/ip4/node.example.org/tcp/4001",
        "/ip4/fd00::1/tcp/4001",
        "/ip6/192.0.2.7/tcp/4001",
        "/dns4/-bad-/tcp/4001",
        "/dns4/two words/tcp/4001",
        "/dns4/a..b/tcp/4001",
        f"/dns4/{'a' * 64}.org/tcp/4001",
        "/dns4//tcp/4001",
    ],
)
def test_i2_what_nobody_can_dial_is_refused(text: str) -> None:
    """I2: wildcards, port 0, groups and nonsense are refused in a sentence."""
    with pytest.raises(HostError) as refused:
        announced(text)
    assert str(refused.value).endswith(".")


def test_i3_an_address_as_run_prints_it() -> None:
    """I3: the own /p2p/ is taken off, that of another node is refused."""
    plain = "/ip4/192.0.2.7/tcp/4001"
    assert announced(f"{plain}/p2p/{PEER}", node=NODE) == plain
    assert announced(f"{plain}/ipfs/{PEER}/", node=NODE) == plain
    assert listened(f"{plain}/p2p/{PEER}", node=NODE) == plain
    for check in (announced, listened):
        with pytest.raises(HostError, match="another node"):
            check(f"{plain}/p2p/{OTHER}", node=NODE)


def test_what_may_be_listened_on() -> None:
    for good in ("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/4001", "/ip6/::1/tcp/0"):
        assert listened(good) == good
    for bad in ("/dns4/localhost/tcp/4001", "/dnsaddr/example.org", "/ip4/224.0.0.1/tcp/1", "", "4001"):
        with pytest.raises(HostError):
            listened(bad)


def test_what_may_be_joined_through() -> None:
    whole = f"/dns4/node.example.org/tcp/4001/p2p/{PEER}"
    assert joined_through(whole).whole == whole
    assert joined_through("/dnsaddr/example.org").whole == "/dnsaddr/example.org"
    for bad in (
        "/ip4/192.0.2.7/tcp/4001",
        f"/ip4/0.0.0.0/tcp/4001/p2p/{PEER}",
        f"/ip4/1.2.3.4/tcp/0/p2p/{PEER}",
    ):
        with pytest.raises(HostError):
            joined_through(bad)


def test_an_empty_bootstrap_is_not_the_first_node_of_a_network() -> None:
    """Kind G: a variable that was empty is refused, and the command line comes before it."""
    whole = f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}"
    assert through(None, ()) == ()
    assert through([whole + "/", whole.upper().replace(PEER.upper(), PEER)], ("",)) == (whole,)
    with pytest.raises(HostError, match="HC_BOOTSTRAP is empty"):
        through(None, ("",))
    with pytest.raises(HostError, match="--bootstrap is empty"):
        through([""], ())


def test_reach() -> None:
    def reach(**given: object) -> object:
        fields: dict[str, object] = {"listen": None, "announce": None, "bootstrap": None, "setting": ()}
        return reach_of(node=NODE, **(fields | given))  # type: ignore[arg-type]

    own = reach(direct=None, announce=[f"/dns4/localhost/tcp/7/p2p/{PEER}"])
    assert own.listen == (ANYWHERE,)  # type: ignore[attr-defined]
    assert own.direct == "/ip4/0.0.0.0/tcp/0"  # type: ignore[attr-defined]
    assert own.announce == ("/dns4/localhost/tcp/7",)  # type: ignore[attr-defined]
    with pytest.raises(HostError, match="Nobody could dial"):
        reach(announce=["/dns4/no-such-host.invalid/tcp/7"])
    with pytest.raises(HostError, match="empty"):
        reach(direct=None, direct_announce="")
    with pytest.raises(HostError, match="of no use"):
        reach(direct="off", direct_announce="/ip4/192.0.2.7/tcp/1")
    with pytest.raises(HostError, match="at most"):
        reach(announce=[f"/ip4/192.0.2.7/tcp/{port}" for port in range(1, MOST + 2)])


def test_a_wildcard_stands_for_the_interfaces() -> None:
    """I2: what is advertised of a wildcard are addresses that can be dialled, loopback last."""
    for wildcard, loopback in (("/ip4/0.0.0.0/tcp/4001", "127.0.0.1"), ("/ip6/::/tcp/4001", "::1")):
        hosts = [split_tcp(address)[0] for address in expand(wildcard)]
        assert hosts[-1] == loopback
        assert len(hosts) <= MOST
        assert not any(ipaddress.ip_address(host).is_unspecified for host in hosts)
    assert expand("/ip4/192.0.2.7/tcp/1") == ["/ip4/192.0.2.7/tcp/1"]


async def test_names_are_looked_up() -> None:
    """I1: localhost is in /etc/hosts and no DNS server knows it."""
    with trio.fail_after(300):
        assert "/ip4/127.0.0.1/tcp/7" in [str(each) for each in await resolve(parse("/dns4/localhost/tcp/7"))]
        number = parse(f"/ip6/::1/tcp/7/p2p/{PEER}")
        assert await resolve(number) == [number]
        for unknown in ("/dns4/no-such-host.invalid/tcp/7", "/dnsaddr/no-such-host.invalid"):
            with pytest.raises(UnknownHost, match="no-such-host"):
                await resolve(parse(unknown))
