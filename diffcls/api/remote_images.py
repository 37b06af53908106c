"""Images of the web: a bounded HTTP client that connects to private networks only if allowed.

An address that a program passes on from elsewhere must not reach services of the machine or its
network (server-side request forgery). Every host, that of each redirect included, is therefore
resolved once, all its addresses must be public, and the connection goes to the checked address.
Private addresses can be allowed; a redirect from a public host into a private network cannot.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from diffcls.support.errors import DataError, UsageError
from diffcls.support.options import Range
from diffcls.support.version import __version__

TIMEOUT_SECONDS = 10.0
"""Default time for one image: connection, redirects and transfer together."""
TIMEOUTS = Range(0, 86_400, whole=False, is_open=True)
MAX_BYTES = 50_000_000
MAX_REDIRECTS = 5
CHUNK_BYTES = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class WebAccess:
    """Limits of fetching one image from the web.

    Args:
        timeout: time for connection, redirects and transfer together, in seconds, above 0.
        allow_private_addresses: whether the address may be in a private network. A redirect from a
            public host into a private network is refused all the same.

    Raises:
        UsageError: for a time-out out of range, or a permission that is neither True nor False.
    """

    timeout: float = TIMEOUT_SECONDS
    allow_private_addresses: bool = False

    def __post_init__(self) -> None:
        if self.timeout not in TIMEOUTS:
            allowed = f"seconds {TIMEOUTS}"
            raise UsageError("timeout out of range", given=self.timeout, allowed=allowed)
        if self.allow_private_addresses not in (True, False):
            given, allowed = self.allow_private_addresses, "True or False"
            raise UsageError("allow_private_addresses is on or off", given=given, allowed=allowed)


PUBLIC_ONLY = WebAccess()


def web_access(default: WebAccess, timeout: float | None, private: bool | None) -> WebAccess:
    """The limits of a call: those that are given, and otherwise the default."""
    given: dict[str, Any] = {"timeout": timeout, "allow_private_addresses": private}
    return replace(default, **{name: v for name, v in given.items() if v is not None})


def fetch(url: str, access: WebAccess = PUBLIC_ONLY) -> bytes:
    """The content of an ``http://`` or ``https://`` address.

    Proxies are not used, and no more than 50 MB are read.

    Args:
        url: the address.
        access: time-out, and whether private addresses are allowed.

    Raises:
        DataError: for a private address that is not allowed, too many redirects, another status
            than 200, a content that is too large, or a failure of the network.
    """
    deadline = time.monotonic() + access.timeout
    current, private = url, access.allow_private_addresses
    try:
        for _ in range(MAX_REDIRECTS + 1):
            content, following, public = _request(current, url, deadline, private)
            if following is None:
                return content
            # a public host must not choose an address of the private network
            current, private = urljoin(current, following), private and not public
    except TimeoutError as error:
        raise _failure(f"not fetched within {access.timeout:g} s", url) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error) or type(error).__name__
        raise _failure(f"cannot be fetched ({reason})", url) from error
    raise _failure(f"has more than {MAX_REDIRECTS} redirects", url)


def _failure(
    problem: str, url: str, allowed: str | None = None, todo: str | None = None
) -> DataError:
    return DataError(f"image address {problem}", given=url, allowed=allowed, todo=todo)


def _request(
    current: str, url: str, deadline: float, private: bool
) -> tuple[bytes, str | None, bool]:
    """The content, or the address of a redirect; and whether the host is public."""
    parts = urlsplit(current)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _failure("has no host, or another scheme", current, "http:// and https://")
    address = _checked_address(parts, current, url, private)
    public = is_public(address)
    connection = _open(parts, address, deadline)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"User-Agent": f"diffcls/{__version__}", "Accept-Encoding": "identity"}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status in REDIRECTS and response.headers["Location"]:
            return b"", response.headers["Location"], public
        if response.status != 200:
            raise _failure(f"cannot be fetched (HTTP {response.status} {response.reason})", url)
        return _read(response, url, deadline), None, public
    finally:
        connection.close()


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _checked_address(parts: SplitResult, current: str, url: str, private: bool) -> Address:
    """The address of a host, all of whose addresses are public unless private ones are allowed."""
    addresses = resolve(str(parts.hostname), _port(parts))
    if addresses and (private or all(map(is_public, addresses))):
        return addresses[0]
    if current != url:
        raise _failure("is redirected into a private network", url, "redirects to public hosts")
    todo = "if you trust it, give allow_private_addresses=True"
    raise _failure("is in a private network", url, "hosts with public addresses only", todo)


def _open(parts: SplitResult, address: Address, deadline: float) -> http.client.HTTPConnection:
    """A connection to a checked address of the host."""
    host, port, secure = str(parts.hostname), _port(parts), parts.scheme == "https"
    connection = http.client.HTTPConnection(host, port)
    plain = connect(address, port, _remaining(deadline))
    try:
        # the certificate is checked against the name, whatever the address
        connection.sock = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=host)
            if secure
            else plain
        )
    except BaseException:
        plain.close()
        raise
    return connection


def _read(response: http.client.HTTPResponse, url: str, deadline: float) -> bytes:
    content = bytearray()
    while True:
        _remaining(deadline)  # a server that sends byte after byte never meets the socket's limit
        chunk = response.read1(CHUNK_BYTES)
        content += chunk
        if len(content) > MAX_BYTES or (response.length or 0) > MAX_BYTES:
            raise _failure("holds too much", url, f"at most {MAX_BYTES // 10**6} MB")
        if not chunk:
            break
    if response.length:  # bytes of the declared length that never came
        raise http.client.IncompleteRead(bytes(content), response.length)
    return bytes(content)


def _remaining(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host, in the system's order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return [ipaddress.ip_address(text) for text in texts]


def connect(address: Address, port: int, timeout: float) -> socket.socket:
    """A connection to an address; `timeout` holds for each later operation, too."""
    return socket.create_connection((str(address), port), timeout)


def is_public(address: Address) -> bool:
    """Whether an address is reachable from everywhere, and so is an IPv4 address within it."""
    inner: list[Address | None] = []
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None
    whole = mapped or (address.is_global and not address.is_multicast)
    return whole and all(is_public(part) for part in inner if part is not None)
