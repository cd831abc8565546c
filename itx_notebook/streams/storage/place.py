"""Whether a directory is a place for a store: SQLite's log needs memory that all who use the file share.

A network file system does not give that between machines, and its locks are of many kinds; what goes wrong there goes
wrong later, and silently. So it is refused at once, where the system says what it is (Linux does).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from itx_notebook.errors import StoreError

__all__ = ["check_place", "try_get_file_system"]

_MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = re.compile(
    r"(fuse\.)?(afs|beegfs|ceph|cifs|davfs2?|glusterfs|gpfs|lustre|ncpfs|nfs4?|orangefs|pvfs2|rclone|s3fs|smb[23]|smbfs|sshfs)"
)


def check_place(directory: Path) -> None:
    """Raise :class:`StoreError` if `directory`, which exists, is on a network file system."""
    kind = try_get_file_system(directory)
    if kind is not None and _NETWORK.fullmatch(kind):
        raise StoreError(
            f"{directory} is on a network file system ({kind}), where a store would be damaged sooner or later.",
            details={"path": str(directory), "fileSystem": kind},
            hint="Put the store on a local disk with ITX_HOME or home=; bring a copy back with itx-notebook backup.",
        )


def try_get_file_system(directory: Path) -> str | None:
    """The type of the file system under `directory` (``"ext4"``), or ``None`` where the system does not tell."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    resolved = directory.resolve()
    best, kind = -1, None
    for mount in mounts:
        # "36 35 98:0 /root /mount/point options [optional …] - type source options"; a later line lies on top.
        left, _, right = mount.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = Path(_unescape(fields[4]))
        depth = len(point.parts)
        if depth >= best and resolved.is_relative_to(point):
            best, kind = depth, right.split(" ")[0]
    return kind


def _unescape(text: str) -> str:
    """What the kernel writes as an octal escape: spaces in paths, for example."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
