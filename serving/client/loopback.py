"""Says which addresses are on this machine, so that no proxy comes between.

The environment's proxies (`http_proxy` and the like) are for other machines: a proxy cannot reach
the loopback of this one.
"""

import ipaddress


def is_loopback(target: str) -> bool:
    """Whether an address is on this machine: loopback, `localhost` or a Unix socket.

    Args:
        target: a host, `host:port`, or a target of gRPC such as `dns:///localhost:8500`,
            `ipv6:[::1]:8500` or `unix:/run/models.sock`.

    Example:
        >>> [is_loopback(target) for target in ("127.0.0.1:8500", "[::1]:8500", "models:8500")]
        [True, True, False]
    """
    scheme, _, rest = target.partition(":")
    if scheme.lower() in ("unix", "unix-abstract"):
        return True
    if scheme.lower() in ("dns", "ipv4", "ipv6"):
        target = rest.rpartition("/")[2]  # what is before it is the address of a DNS server
    return all(_is_loopback_host(_host(address)) for address in target.split(","))


def channel_options(target: str) -> list[tuple[str, int]]:
    """Returns the options of a gRPC channel that keep a target on this machine off proxies.

    Other targets follow gRPC's rules: `grpc_proxy`, `https_proxy` or `http_proxy`, unless
    `no_grpc_proxy` or `no_proxy` lists the host.
    """
    return [("grpc.enable_http_proxy", 0)] if is_loopback(target) else []


def _host(address: str) -> str:
    """Returns the host of `host`, `host:port`, `[IPv6]:port` or a bare IPv6 address."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def _is_loopback_host(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    # To connect to the unspecified address is to connect to this machine.
    return address.is_loopback or address.is_unspecified
