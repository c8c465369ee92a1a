"""A ledger whose tables are up to date opens without Alembic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from hypercluster.market.ledger.database import newest_version, open_engine, version_of

ROOT = Path(__file__).resolve().parents[3]


def test_the_newest_version_is_that_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    assert newest_version() == ScriptDirectory.from_config(config).get_current_head()


def test_t1_tables_that_are_up_to_date_need_no_alembic(tmp_path: Path) -> None:
    """T1: only the first opening, or one after an update, loads the migrations."""
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    with open_engine(url).connect() as connection:
        assert version_of(connection) == newest_version()
    script = (
        "import sys; from hypercluster.market.ledger.database import open_engine\n"
        f"open_engine({url!r}).dispose(); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["False"]
