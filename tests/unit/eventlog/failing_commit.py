"""A storage that fails at the last moment."""

import sqlite3


class FailingCommit:
    """A connection whose COMMIT reports an error, after or instead of doing it."""

    def __init__(self, connection, *, commit_first):
        self._connection = connection
        self._commit_first = commit_first

    def execute(self, statement, *values):
        if statement == "COMMIT":
            self._connection.execute("COMMIT" if self._commit_first else "ROLLBACK")
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(statement, *values)

    def close(self):
        self._connection.close()
