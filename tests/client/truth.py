"""Whether a connection's status says what is so."""

from __future__ import annotations

from itx_notebook.client.connection import Connection


class Truth:
    """Looks at every change and whenever it is asked to.

    Attributes
    ----------
    statuses : list of str
        Those that were told of, in order.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.statuses: list[str] = []
        self._lies: list[str] = []
        connection.subscribe_status(self._note)

    def _note(self, status: str) -> None:
        self.statuses.append(status)
        # What a listener raises goes to the log alone.
        if not self._is_true():
            self._lies.append(status)

    def _is_true(self) -> bool:
        """Connected is who has a session that lives."""
        epoch = self._connection.epoch
        is_there = epoch is not None and epoch.session.error is None and not epoch.lost.is_set()
        return (self._connection.status == "connected") == is_there

    def check(self) -> None:
        """What it says now is so, and so was everything it told of."""
        assert self._lies == []
        assert self._is_true()
