"""Becoming an ordinary user once everything that needs root is open.

Reloads and upgrades happen as that user: `Sockets.give_to` makes it the owner of listening sockets, log files are
opened as that user, and the capability to bind low ports is kept.
"""

from __future__ import annotations

# Python needs it for the first host name it looks up, perhaps as a user that cannot read the interpreter's files.
import encodings.idna  # noqa: F401
import os
import pwd

from l4lb.errors import StartError
from l4lb.process import capabilities


def find_user(name: str) -> pwd.struct_passwd:
    """The account `name`. StartError when there is none."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise StartError(f"process.user: there is no user '{name}'; create it or name another one") from None


def become(account: pwd.struct_passwd) -> None:
    """Give up root for good, in every thread; this one may still bind low ports. StartError if that is not allowed."""
    try:
        capabilities.keep_over_setuid()
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        capabilities.keep_only_low_ports()
        capabilities.forbid_new_privileges()
    except OSError as error:
        raise StartError(f"process.user: cannot become '{account.pw_name}': {error.strerror}") from error
