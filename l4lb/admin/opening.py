"""Opens the admin server of a process: at the configured path, or at the default path if that is possible."""

from __future__ import annotations

import logging
import os

from l4lb.admin import DEFAULT_SOCKET
from l4lb.admin.server import AdminServer
from l4lb.config import model
from l4lb.errors import StartError
from l4lb.sockets.inherited import Inherited
from l4lb.status import Control

_log = logging.getLogger(__name__)


def listening_admin(
    control: Control, settings: model.Admin, inherited: Inherited, owner: tuple[int, int] | None
) -> AdminServer:
    """A server with open sockets; its clients wait until `serve`. `owner` becomes the owner of the unix socket, and of
    its directory if that is new.

    StartError if a configured socket cannot be opened.
    """
    path = settings.socket or _default_socket(owner)
    admin = AdminServer(control, path, settings.listen, inherited, settings.hosts)
    try:
        admin.listen()
    except StartError as error:
        admin.listening.close()
        if settings.socket is not None or path is None:
            raise
        # The default socket is optional, and another l4lb may have it.
        _log.warning("%s; running without an admin socket", error)
        path = None
        admin = AdminServer(control, None, settings.listen, inherited, settings.hosts)
        admin.listen()
    if owner is not None and path is not None:
        os.chown(path, *owner, follow_symlinks=False)
    return admin


def _default_socket(owner: tuple[int, int] | None) -> str | None:
    path = os.environ.get("L4LB_SOCKET") or DEFAULT_SOCKET
    try:
        path = os.path.abspath(path)
        directory = os.path.dirname(path)
        if not os.path.isdir(directory):
            os.makedirs(directory, mode=0o755, exist_ok=True)
            if owner is not None:
                os.chown(directory, *owner)
    except OSError as error:
        _log.warning("no admin socket at %s: %s; set admin.socket to have one", path, error.strerror)
        return None
    return path
