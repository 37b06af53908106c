"""Images of the web: a bounded HTTP client that never connects to private networks.

An address that a program passes on from elsewhere must not reach services of the machine or its
network (server-side request forgery). Every host, that of each redirect included, is therefore
resolved once, all its addresses must be public, and the connection goes to the checked address.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from urllib.parse import SplitResult, urljoin, urlsplit

from diffcls.support.errors import DataError
from diffcls.support.version import __version__

TIMEOUT_SECONDS = 10.0
"""Default time for one image: connection, redirects and transfer together."""
MAX_BYTES = 50_000_000
MAX_REDIRECTS = 5
CHUNK_BYTES = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def fetch(url: str, timeout: float = TIMEOUT_SECONDS) -> bytes:
    """The content of an ``http://`` or ``https://`` address.

    Proxies are not used, and no more than 50 MB are read.

    Args:
        url: the address.
        timeout: time for connection, redirects and transfer together, in seconds.

    Raises:
        DataError: for an address that is not public, too many redirects, another status than 200,
            a content that is too large, or a failure of the network.
    """
    deadline = time.monotonic() + timeout
    current = url
    try:
        for _ in range(MAX_REDIRECTS + 1):
            content, following = _request(current, url, deadline)
            if following is None:
                return content
            current = urljoin(current, following)
    except TimeoutError as error:
        raise _failure(f"not fetched within {timeout:g} s", url) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error) or type(error).__name__
        raise _failure(f"cannot be fetched ({reason})", url) from error
    raise _failure(f"has more than {MAX_REDIRECTS} redirects", url)


def _failure(problem: str, url: str, allowed: str | None = None) -> DataError:
    return DataError(f"image address {problem}", given=url, allowed=allowed)


def _request(current: str, url: str, deadline: float) -> tuple[bytes, str | None]:
    """The content, or the address of a redirect."""
    parts = urlsplit(current)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _failure("has no host, or another scheme", current, "http:// and https://")
    connection = _open(parts, url, deadline)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"User-Agent": f"diffcls/{__version__}", "Accept-Encoding": "identity"}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status in REDIRECTS and response.headers["Location"]:
            return b"", response.headers["Location"]
        if response.status != 200:
            raise _failure(f"cannot be fetched (HTTP {response.status} {response.reason})", url)
        return _read(response, url, deadline), None
    finally:
        connection.close()


def _open(parts: SplitResult, url: str, deadline: float) -> http.client.HTTPConnection:
    """A connection to a checked address of the host."""
    host, secure = str(parts.hostname), parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    addresses = resolve(host, port)
    if not addresses or not all(map(is_public, addresses)):
        raise _failure("is in a private network", url, "hosts with public addresses only")
    connection = http.client.HTTPConnection(host, port)
    plain = connect(addresses[0], port, _remaining(deadline))
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
