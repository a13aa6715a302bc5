"""Becoming an ordinary user once everything that needs root is open."""

from __future__ import annotations

import os
import pwd

from l4lb.errors import StartError


def find_user(name: str) -> pwd.struct_passwd:
    """The account `name`. StartError when there is none."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise StartError(f"process.user: there is no user '{name}'; create it or name another one") from None


def become(account: pwd.struct_passwd) -> None:
    """Give up root for good, in every thread. StartError when that is not allowed."""
    try:
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    except OSError as error:
        raise StartError(f"process.user: cannot become '{account.pw_name}': {error.strerror}") from error
