"""The local store's file: its schema, how it is opened, and what can go wrong.

Everything here blocks, and a LocalDB is for one thread.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from flannelette.control.errors import StoreError, StoreUnavailable

log = logging.getLogger(__name__)

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process's transaction."""
HISTORY = 1000
"""Changes that are kept for the watches of slower processes."""
APPLICATION_ID = 0x666C6E74
"""SQLite's mark of whose file it is."""
SCHEMA_VERSION = 1

_SCHEMA = f"""
CREATE TABLE config (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    text BLOB NOT NULL
);
CREATE TABLE lease (
    key TEXT PRIMARY KEY NOT NULL CHECK (typeof(key) = 'text'),
    value BLOB NOT NULL,
    expires REAL CHECK (typeof(expires) IN ('real', 'null')), -- NULL: a reservation
    revision INTEGER NOT NULL DEFAULT 0 -- set by the triggers
);
CREATE TABLE change (
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    value BLOB, -- NULL: deleted
    expires REAL
);
CREATE TRIGGER lease_inserted AFTER INSERT ON lease BEGIN
    INSERT INTO change (key, value, expires) VALUES (new.key, new.value, new.expires);
    UPDATE lease SET revision = (SELECT max(revision) FROM change) WHERE key = new.key;
END;
CREATE TRIGGER lease_updated AFTER UPDATE OF key, value, expires ON lease BEGIN
    INSERT INTO change (key) SELECT old.key WHERE old.key <> new.key;
    INSERT INTO change (key, value, expires) VALUES (new.key, new.value, new.expires);
    UPDATE lease SET revision = (SELECT max(revision) FROM change) WHERE key = new.key;
END;
CREATE TRIGGER lease_deleted AFTER DELETE ON lease BEGIN
    INSERT INTO change (key) VALUES (old.key);
END;
CREATE TRIGGER change_trimmed AFTER INSERT ON change BEGIN
    DELETE FROM change WHERE revision <= new.revision - {HISTORY};
END;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}
"""What can be over the next time: StoreUnavailable."""


class LocalDB:
    """The SQLite file at path: made if absent, for its owner alone."""

    def __init__(self, path: Path, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self.path = path.absolute()
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def connection(self) -> sqlite3.Connection:
        """The connection to the file that path names now, in autocommit mode.

        Somebody who deletes the file wants a fresh start; the old connection would go
        on with a file that no other daemon sees. Raises StoreError if the file is not
        ours or cannot be made, and sqlite3.Error.
        """
        if self._connection is not None and self._file == _identity(self.path):
            return self._connection
        if self._connection is not None:
            log.warning("local store was replaced: path=%s", self.path)
        self.close()
        self._create()
        self._file = _identity(self.path)
        db = sqlite3.connect(
            self.path, timeout=self._busy_timeout, isolation_level=None
        )
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._connection = db
        return db

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def translated(self, error: sqlite3.Error) -> StoreError:
        """SQLite's error as one of ours: StoreUnavailable if it may pass."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        kind = StoreUnavailable if code in _PASSING else StoreError
        return kind(f"local store {self.path}: {error}")

    def _create(self) -> None:
        """Make an empty file with mknod: to close a descriptor of a file that SQLite
        has open elsewhere in this process would drop its locks."""
        try:
            os.mknod(self.path, stat.S_IFREG | 0o600)
        except FileExistsError:
            if not self.path.is_file():
                raise StoreError(
                    f"local store {self.path}: not a regular file"
                ) from None
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(
                f"local store {self.path}: no such directory: {self.path.parent}"
            ) from error
        except OSError as error:
            raise StoreError(f"local store {self.path}: {error.strerror}") from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        with writing(db):
            (application_id,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if (application_id, version, tables) == (0, 0, 0):
                for statement in _statements(_SCHEMA):
                    db.execute(statement)
            elif application_id != APPLICATION_ID:
                raise StoreError(
                    f"local store {self.path}: a database of another program"
                )
            elif version != SCHEMA_VERSION:
                raise StoreError(
                    f"local store {self.path}: made by another version of flannelette "
                    f"(schema {version}, not {SCHEMA_VERSION})"
                )
        # The change of mode does not wait for other processes by itself.
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _identity(path: Path) -> tuple[int, int] | None:
    """The file that path names now; None if it names none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def writing(db: sqlite3.Connection) -> AbstractContextManager[None]:
    """A transaction with nobody beside it: all of it happens, or nothing."""
    return _transaction(db, "BEGIN IMMEDIATE")


def reading(db: sqlite3.Connection) -> AbstractContextManager[None]:
    """A transaction whose reads all see one state."""
    return _transaction(db, "BEGIN")


@contextmanager
def _transaction(db: sqlite3.Connection, begin: str) -> Iterator[None]:
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; executescript() would commit in between."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
