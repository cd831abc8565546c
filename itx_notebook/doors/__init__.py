"""Where credentials become handles, and nowhere else.

A door asks once who is calling and gives out a view of one context. Behind it nobody checks scopes: which context the
view points at *is* the authority.
"""

from itx_notebook.doors.access import access_for_principal, is_project_id, resolve_accessible_context
from itx_notebook.doors.directory import Directory
from itx_notebook.doors.inprocess import (
    Deployment,
    ServerItx,
    ServerProjects,
    ServerStream,
    ServerStreams,
    get_global_itx,
    get_server_itx,
)

__all__ = [
    "Deployment",
    "Directory",
    "ServerItx",
    "ServerProjects",
    "ServerStream",
    "ServerStreams",
    "access_for_principal",
    "get_global_itx",
    "get_server_itx",
    "is_project_id",
    "resolve_accessible_context",
]
