"""By which names and addresses this machine can be reached.

Owns: asking the system for them. Does not know what listens there.
"""

import ipaddress
import re
import socket

import psutil

MOST = 32
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def addresses() -> list[Address]:
    """Of the interfaces that are up: loopback last; without those that count on one link alone (fe80::), which need
    the name of an interface. Raises nothing."""
    found: set[Address] = set()
    try:
        up = {name for name, each in psutil.net_if_stats().items() if each.isup}
        for name, each in psutil.net_if_addrs().items():
            for entry in each:
                if name not in up or entry.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                try:
                    address = ipaddress.ip_address(entry.address.partition("%")[0])
                except ValueError:
                    continue
                if not address.is_link_local and not address.is_unspecified:
                    found.add(address)
    except OSError:
        pass
    ordered = sorted(found, key=lambda each: (each.is_loopback, each.version, int(each)))
    return ordered[:MOST]


def names() -> list[str]:
    """Its host name, as it is and as a name that is found on a local network (mDNS)."""
    try:
        host = socket.gethostname().lower().rstrip(".")
    except OSError:
        return []
    if not _NAME.fullmatch(host) or len(host) > 200:
        return []
    short = host.partition(".")[0]
    return list(dict.fromkeys([host, f"{short}.local"]))


def in_url(address: Address) -> str:
    """As it stands in a URL."""
    return f"[{address}]" if address.version == 6 else str(address)
