"""Whether the hub of models and data sets can be reached."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from huggingface_hub import constants


def hub_answers() -> bool:
    """A quick look, since the hub's own client waits half a minute before it gives up."""
    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # a proxy resolves names that this machine cannot
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.getaddrinfo(address.hostname, address.port or 443)
    except OSError:
        return False
    return True


@contextmanager
def asked_once() -> Iterator[None]:
    """Inside, the hub's client looks in its cache alone where the hub cannot be reached."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = not hub_answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
