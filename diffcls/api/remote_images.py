"""Images of the web: a bounded HTTP client that connects to private networks only if allowed.

An address that a program passes on from elsewhere must not reach services of the machine or its
network (server-side request forgery). Every host, that of each redirect included, is therefore
resolved once, all its addresses must be public, and the connection goes to the checked address.
Private addresses can be allowed; a redirect from a public host into a private network cannot.
"""

from __future__ import annotations

import http.client
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar
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
Result = TypeVar("Result")


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
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, DataError):
            raise
        if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
            raise _failure(f"not fetched within {access.timeout:g} s", url) from error
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
    addresses = _within(deadline, lambda: resolve(str(parts.hostname), _port(parts)))
    address = _checked(addresses, current, url, private)
    public = is_public(address)
    plain = connect(address, _port(parts), _remaining(deadline))
    connection = http.client.HTTPConnection(str(parts.hostname), _port(parts))
    connection.sock = plain
    with closing(connection), _cut_off(plain, deadline):
        if parts.scheme == "https":
            # the certificate is checked against the name, whatever the address
            context = ssl.create_default_context()
            connection.sock = context.wrap_socket(plain, server_hostname=parts.hostname)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"User-Agent": f"diffcls/{__version__}", "Accept-Encoding": "identity"}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status in REDIRECTS and response.headers["Location"]:
            return b"", response.headers["Location"], public
        if response.status != 200:
            raise _failure(f"cannot be fetched (HTTP {response.status} {response.reason})", url)
        return _read(response, url, deadline), None, public


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _checked(addresses: list[Address], current: str, url: str, private: bool) -> Address:
    """The first address of a host; all of them are public unless private ones are allowed."""
    if addresses and (private or all(map(is_public, addresses))):
        return addresses[0]
    if current != url:
        raise _failure("is redirected into a private network", url, "redirects to public hosts")
    todo = "if you trust it, give allow_private_addresses=True"
    raise _failure("is in a private network", url, "hosts with public addresses only", todo)


def _within(deadline: float, call: Callable[[], Result]) -> Result:
    """The result of a call that has no time-out of its own, such as the look-up of a name.

    Raises:
        TimeoutError: if it does not come in time; the call then ends in a thread of its own.
    """
    results: queue.Queue[Result | Exception] = queue.Queue()

    def work() -> None:
        try:
            results.put(call())
        except Exception as error:
            results.put(error)

    threading.Thread(target=work, daemon=True, name="diffcls-resolve").start()
    try:
        result = results.get(timeout=_remaining(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(result, Exception):
        raise result
    return result


@contextmanager
def _cut_off(connection: socket.socket, deadline: float) -> Iterator[None]:
    """Context in which a connection ends at the deadline.

    The time-out of a socket holds for each operation: a server that sends byte after byte, in its
    headers or in the handshake, would never meet it.
    """

    def end() -> None:
        with suppress(OSError):
            guard.shutdown(socket.SHUT_RDWR)

    with connection.dup() as guard:  # it stays valid while the connection is wrapped
        timer = threading.Timer(_remaining(deadline), end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


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
    _remaining(deadline)  # or the end is that of a connection that was cut off
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
