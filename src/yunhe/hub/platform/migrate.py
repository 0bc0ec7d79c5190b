"""Bring the schema up to date at start-up. Replicas that start together take turns (PostgreSQL) or are alone."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from yunhe.hub.platform.db import Database

_LOCK = 0x79756E68  # "yunh": an advisory lock number of our own


def upgrade(db: Database) -> None:
    """To the newest revision. Safe to call at every start."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with db.write_engine.connect() as conn:
        if not db.is_sqlite:
            conn.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
            conn.commit()
        try:
            config.attributes["connection"] = conn
            command.upgrade(config, "head")
        finally:
            if not db.is_sqlite:
                conn.rollback()
                conn.exec_driver_sql(f"SELECT pg_advisory_unlock({_LOCK})")
                conn.commit()
