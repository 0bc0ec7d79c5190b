"""A private Slurm that keeps accounts: its slurmdbd on a private MariaDB, both from Debian, in the cluster's folder."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess

from tests.engines.slurm import CALL_S, Cluster
from yunhe.apps.local_engines.processes import alive, free_ports, kill

PACKAGES = "slurmdbd slurm-wlm-mysql-plugin mariadb-server-core mariadb-client-core"
INSTALL = f"sudo apt-get install -y --no-install-recommends {PACKAGES}"
NEEDED = ("slurmdbd", "mariadbd", "mariadb", "mariadb-install-db", "sacct", "sacctmgr")
ACCOUNTS = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge/socket
JobAcctGatherType=jobacct_gather/linux
"""
DBD = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=accounts
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def missing_accounts() -> str:
    """Why accounts cannot be kept here; empty when they can."""
    return "" if all(map(_program, NEEDED)) else f"slurmdbd and MariaDB are not installed: {INSTALL}"


class AccountingCluster(Cluster):
    """As `Cluster`; `stop_accounts` and `start_accounts` as a centre does that mends its slurmdbd."""

    _database: "subprocess.Popen[bytes] | None" = None

    def _configure(self) -> None:
        super()._configure()
        port, database_port = free_ports(2)
        conf = self.folder / "slurm.conf"
        left = (line for line in conf.read_text().splitlines() if not line.startswith(("AccountingSt", "JobAcct")))
        conf.write_text("\n".join([*left, ACCOUNTS.format(port=port, folder=self.folder)]))
        password = secrets.token_hex(16)
        user = pwd.getpwuid(os.geteuid()).pw_name
        text = DBD.format(port=port, database_port=database_port, folder=self.folder, password=password, user=user)
        dbd = self.folder / "slurmdbd.conf"
        dbd.touch(0o600)
        dbd.write_text(text)
        self._start_database(database_port, password, user)

    def start_controller(self) -> None:
        if not (self.folder / "slurmdbd.log").exists():
            self.start_accounts()
            self.call("sacctmgr", "-i", "add", "cluster", "yunhe")
        super().start_controller()

    def start_accounts(self) -> None:
        self._daemon(["slurmdbd"])
        self.until(lambda: self._answers("sacctmgr", "-n", "show", "cluster"), "have slurmdbd", 0.2)

    def stop_accounts(self) -> None:
        number = int((self.folder / "slurmdbd.pid").read_text())
        os.kill(number, signal.SIGTERM)
        self.until(lambda: not alive(number), "end slurmdbd")

    def _start_database(self, port: int, password: str, user: str) -> None:
        """As this user: it is nobody else's."""
        folder = self.folder / "database"
        folder.mkdir(0o700)
        common = ["--no-defaults", f"--user={user}", f"--datadir={folder}/data"]
        setup = ["mariadb-install-db", *common, "--auth-root-authentication-method=socket", "--skip-test-db"]
        setup.append(f"--auth-root-socket-user={user}")
        subprocess.run(setup, check=True, capture_output=True, timeout=120)
        sizes = ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-lock-wait-timeout=900"]
        sizes += ["--innodb-flush-log-at-trx-commit=2", "--performance-schema=OFF"]
        listen = [f"--socket={folder}/socket", f"--port={port}", "--bind-address=127.0.0.1"]
        with (self.folder / "database.log").open("wb") as log:
            command = [_program("mariadbd") or "mariadbd", *common, *listen, *sizes]
            self._database = subprocess.Popen(command, stdout=log, stderr=log)
        client = ("mariadb", "--no-defaults", f"--socket={folder}/socket", f"--user={user}")
        self.until(lambda: self._answers(*client, "-e", "select 1"), "have its database", 0.1)
        for host in ("localhost", "127.0.0.1"):
            sql = f"create user slurm@'{host}' identified by '{password}'; grant all on accounts.* to slurm@'{host}'"
            subprocess.run([*client], input=sql.encode(), check=True, capture_output=True, timeout=CALL_S)

    def _answers(self, *command: str) -> bool:
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, check=False, timeout=CALL_S
        )
        return done.returncode == 0

    def stop(self) -> None:
        super().stop()
        pid = self.folder / "slurmdbd.pid"
        if pid.exists() and alive(number := int(pid.read_text())):
            kill(number, signal.SIGTERM)
            self.until(lambda: not alive(number), "end slurmdbd")
        if self._database is not None:
            self._database.terminate()
            self._database.wait(CALL_S)
