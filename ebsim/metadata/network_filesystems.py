"""Which file systems LMDB must not live on, and whether a path lies on one.

LMDB shares its reader table and its lock between processes by mapping ``lock.mdb`` into
memory, and readers see commits through a mapping of ``data.mdb``.  Over a network
neither is coherent: two machines would write at once and each would tear the other's
tree, without any error.  The kernel's mount table tells what a path lies on.
"""

import re
from pathlib import Path
from typing import Final

MOUNT_TABLE: Final = Path("/proc/self/mountinfo")

# fmt: off
_NETWORK: Final = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "orangefs", "pvfs2", "smb2", "smb3",
    "smbfs", "wekafs",
})
# fmt: on
# fmt: off
_NETWORK_FUSE: Final = frozenset({
    "afpfs", "blobfuse", "blobfuse2", "ceph", "ceph-fuse", "curlftpfs", "davfs", "davfs2",
    "gcsfuse", "glusterfs", "goofys", "hdfs", "juicefs", "mfs", "moosefs", "mount-s3",
    "mountpoint-s3", "rclone", "s3fs", "smbnetfs", "sshfs",
})
# fmt: on
_OCTAL_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


def network_filesystem_of(path: Path, mount_table: str) -> str | None:
    """The type of the network file system that *path* lies on, or ``None``.

    *path* is absolute with its symbolic links resolved; it need not exist.
    *mount_table* is the text of ``/proc/self/mountinfo``.

    Source:
        The fields of a line: proc_pid_mountinfo(5).
    """
    found, found_depth = None, -1
    for line in mount_table.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        mount_point = Path(_unescape(fields[4]))
        depth = len(mount_point.parts)
        # Of two mounts on one directory the later hides the earlier, hence >=.
        if depth >= found_depth and path.is_relative_to(mount_point):
            found, found_depth = after.split(" ")[0], depth
    return found if found is not None and _is_network(found) else None


def _is_network(filesystem: str) -> bool:
    kind, _, subtype = filesystem.partition(".")
    return kind in _NETWORK or (kind in {"fuse", "fuseblk"} and subtype in _NETWORK_FUSE)


def _unescape(field: str) -> str:
    return _OCTAL_ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)
