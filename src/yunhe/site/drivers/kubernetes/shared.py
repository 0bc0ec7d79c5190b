"""A cluster whose nodes share a folder with the agent: what jobs leave, their data, and what they save of their work.

The folder of a lease is SHARED/leases/KEY; its pods see `job` of it and nothing else. `started.json` beside it has the
moment at which the agent saw the job run, by the clock of that disk. It comes a little after the begin, so never more
counts as kept than was.
"""

import asyncio
from pathlib import Path

from yunhe.site.crash import CrashPoint, no_crash
from yunhe.site.drivers.contract import Job, LeaseKey
from yunhe.site.drivers.kubernetes.driver import KubernetesDriver
from yunhe.site.drivers.kubernetes.held import Held
from yunhe.site.drivers.lease_dir import LeaseDir, LeaseFiles, place_data, remove_tree
from yunhe.site.drivers.saved import Saved
from yunhe.site.drivers.saved import place as place_saved
from yunhe.site.settings import DriverSettings, KubernetesSettings
from yunhe.site.supervisor.records import write_record


class SharedKubernetesDriver(LeaseFiles, KubernetesDriver):
    """Needs `shared_dir` and `shared_volume` of the settings."""

    def __init__(
        self,
        driver: DriverSettings,
        kubernetes: KubernetesSettings,
        site_id: str,
        data_dir: Path,
        crash_point: CrashPoint = no_crash,
    ) -> None:
        super().__init__(driver, kubernetes, site_id, data_dir, crash_point)
        assert kubernetes.shared_dir is not None
        self._shared = kubernetes.shared_dir / "leases"

    def _folder(self, key: LeaseKey) -> LeaseDir:
        return LeaseDir(self._shared / str(key))

    def _fill(self, job: Job) -> None:
        """Open to whoever reaches it, and only its own pods and the agent do."""
        self._shared.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder(job.key).path
        if path.exists():
            remove_tree(path)
        folder = path / "job"
        folder.mkdir(parents=True)
        for name, text in job.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        if plan := job.lease.checkpoint:
            place_saved(Saved(plan.folder, job.checkpoint), folder)
        for name in job.data:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for one in (folder, *folder.rglob("*")):
            one.chmod(0o777 if one.is_dir() else 0o666)
        for name, source in job.data.items():
            if not (folder / name).exists():  # else it is of the checkpoint, which is newer
                place_data(source, folder / name, None)

    def _on_begin(self, held: Held) -> None:
        super()._on_begin(held)
        path = self._folder(held.key).path
        if path.exists() and not (path / "started.json").exists():
            write_record(str(path / "started.json"), {})

    async def forget(self, key: LeaseKey) -> None:
        await super().forget(key)
        path = self._folder(key).path
        if await asyncio.to_thread(path.exists):
            await asyncio.to_thread(remove_tree, path)
