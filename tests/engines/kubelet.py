"""A small kubelet for tests: it registers nodes, and runs the containers of pods as processes of this host.

    kubelet.py SETTINGS.json

Settings: server, ca, certificate, key (of a cluster administrator), folder, nodes, cpus, memory_mib, cards (resources
and numbers), labels, tls (certificate and key that it serves with), metrics. A file `silent-NODE` in the folder stops
the node's heartbeat and all news from it. Images whose name holds "missing" cannot be pulled.

It does what a kubelet tells the API server: phases, container states, logs over HTTPS, deletion with grace, deadlines.
Of containers there are a file system of their own (bubblewrap), the volumes, and the user; limits by sampling.
"""

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import psutil
import uvicorn

MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
BEAT_S, SAMPLE_S = 1.0, 0.05
VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def expanded(text: str, env: dict[str, str]) -> str:
    """$(NAME) replaced where the name is known, and $$ by $, as Kubernetes does."""
    return VARIABLE.sub(lambda m: "$" if m[0] == "$$" else env.get(m[1], m[0]), text)


@dataclass
class Container:
    """What runs of one pod. `lines`: (time in ns, text with its end)."""

    pod: dict[str, Any]
    process: asyncio.subprocess.Process | None = None
    lines: list[tuple[int, bytes]] = field(default_factory=list)
    started: str = ""
    began: float = 0.0
    cpu_s: float = 0.0
    memory: int = 0
    killed_for: str = ""
    deleting: float | None = None
    task: asyncio.Task[None] | None = None


class Kubelet:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.folder = Path(settings["folder"])
        self.nodes: list[str] = settings["nodes"]
        tls = ssl.create_default_context(cafile=settings["ca"])
        tls.load_cert_chain(settings["certificate"], settings["key"])
        self.http = httpx.AsyncClient(base_url=settings["server"], verify=tls, timeout=30, trust_env=False)
        self.containers: dict[str, Container] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        content = None if body is None else json.dumps(body)
        while True:
            try:
                answer = await self.http.request(method, path, content=content, headers={"Content-Type": kind})
            except httpx.HTTPError:
                await asyncio.sleep(0.2)
                continue
            if answer.status_code >= 500 or answer.status_code == 429:
                await asyncio.sleep(0.2)
                continue
            return answer.json() if answer.status_code < 400 else {"refused": answer.status_code, "text": answer.text}

    # --- nodes ------------------------------------------------------------------------------------------------------

    async def register(self, node: str) -> None:
        settings = self.settings
        labels = {"kubernetes.io/hostname": node, **settings["labels"]}
        await self.call("POST", "/api/v1/nodes", {"metadata": {"name": node, "labels": labels}})
        what = {"cpu": str(settings["cpus"]), "memory": f"{settings['memory_mib']}Mi", "pods": "110"}
        what |= {"ephemeral-storage": "100Gi", **settings["cards"]}
        status = {
            "capacity": what,
            "allocatable": what,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
            "conditions": [self._ready()],
        }
        await self.call("PATCH", f"/api/v1/nodes/{node}/status", {"status": status}, STRATEGIC)

    def _ready(self) -> dict[str, str]:
        return {"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": now()}

    def silent(self, node: str) -> bool:
        return (self.folder / f"silent-{node}").exists()

    async def beat(self) -> None:
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        away: set[str] = set()
        while True:
            for node in self.nodes:
                if self.silent(node):
                    away.add(node)
                    continue
                if node in away:
                    away.discard(node)
                    for pod in (await self.call("GET", "/api/v1/pods"))["items"]:
                        self.seen(pod, True)
                body = {"status": {"conditions": [self._ready()]}}
                await self.call("PATCH", f"/api/v1/nodes/{node}/status", body, STRATEGIC)
                stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                spec = {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": stamp}
                done = await self.call("PATCH", f"{leases}/{node}", {"spec": spec}, MERGE)
                if done.get("refused") == 404:
                    await self.call("POST", leases, {"metadata": {"name": node}, "spec": spec})
            await asyncio.sleep(BEAT_S)

    # --- pods -------------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        while True:
            try:
                answer = await self.call("GET", "/api/v1/pods")
                for pod in answer["items"]:
                    self.seen(pod, True)
                version = answer["metadata"]["resourceVersion"]
                params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "300"}
                async with self.http.stream("GET", "/api/v1/pods", params=params, timeout=310) as stream:
                    async for line in stream.aiter_lines():
                        event = json.loads(line)
                        if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                            self.seen(event["object"], event["type"] != "DELETED")
            except (httpx.HTTPError, KeyError):
                await asyncio.sleep(0.2)

    def seen(self, pod: dict[str, Any], there: bool) -> None:
        uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName")
        if node not in self.nodes or self.silent(node):
            return
        container = self.containers.get(uid)
        if container is None:
            if there and pod["status"].get("phase") == "Pending":
                container = self.containers[uid] = Container(pod)
                container.task = asyncio.create_task(self.run(container))
            elif there and pod["metadata"].get("deletionTimestamp"):
                self.aside(self.remove(pod))
            return
        container.pod = pod
        if not there or (pod["status"].get("phase") in ("Failed", "Succeeded") and container.process):
            self.kill(container, signal.SIGKILL)
        elif pod["metadata"].get("deletionTimestamp") and container.deleting is None:
            grace = pod["metadata"].get("deletionGracePeriodSeconds", 30)
            container.deleting = time.monotonic() + grace
            if grace:
                self.aside(self.ask_to_stop(container))
            else:
                self.kill(container, signal.SIGKILL)
            if container.task is None or container.task.done():
                self.aside(self.remove(pod))

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def ask_to_stop(self, container: Container) -> None:
        """The words of preStop inside the container, then SIGTERM."""
        hook = container.pod["spec"]["containers"][0].get("lifecycle", {}).get("preStop")
        family = psutil.Process(container.process.pid).children(recursive=True) if container.process and hook else []
        if hook and len(family) > 1:
            words = ["nsenter", "-t", str(family[1].pid), "-m", "-p", "--", *hook["exec"]["command"]]
            await (await asyncio.create_subprocess_exec(*words)).wait()
        self.kill(container, signal.SIGTERM)

    def kill(self, container: Container, number: signal.Signals) -> None:
        process = container.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
            # bubblewrap's own two processes would take a signal for the job's end.
            for one in family[1:] if number is signal.SIGTERM else family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(number)
            if number is signal.SIGKILL:
                process.kill()

    async def remove(self, pod: dict[str, Any]) -> None:
        meta = pod["metadata"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        await self.call("DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", body)

    async def tell(self, container: Container, phase: str, state: dict[str, Any], **more: str) -> None:
        meta, spec = container.pod["metadata"], container.pod["spec"]["containers"][0]
        status = {
            "name": spec["name"], "image": spec["image"], "imageID": "", "restartCount": 0,
            "ready": "running" in state, "state": state,
        }  # fmt: skip
        ready = {"type": "Ready", "status": "True" if "running" in state else "False"}
        body = {"status": {"phase": phase, "containerStatuses": [status], "conditions": [ready], **more}}
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        await self.call("PATCH", path, body, STRATEGIC)

    async def run(self, container: Container) -> None:
        pod = container.pod
        image = pod["spec"]["containers"][0]["image"]
        began = now()
        if "missing" in image:
            waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}
            await self.tell(container, "Pending", {"waiting": waiting}, startTime=began)
            while container.deleting is None:
                await asyncio.sleep(SAMPLE_S)
        else:
            mounts = await self.mounts(container)
            container.started, container.began = now(), time.monotonic()
            if container.deleting is None:
                await self.tell(container, "Running", {"running": {"startedAt": container.started}}, startTime=began)
                await self.work(container, mounts)
        if container.deleting is not None:
            await self.remove(container.pod)

    async def mounts(self, container: Container) -> list[str]:
        """bubblewrap's words for the volumes; waits for a Secret that is not there yet, as a kubelet does."""
        meta, spec = container.pod["metadata"], container.pod["spec"]
        base = self.folder / "pods" / meta["uid"]
        sources: dict[str, Path] = {}
        for volume in spec.get("volumes") or ():
            path = sources[volume["name"]] = base / volume["name"]
            if "hostPath" in volume:
                sources[volume["name"]] = Path(volume["hostPath"]["path"])
            elif "nfs" in volume:
                sources[volume["name"]] = Path(volume["nfs"]["path"])
            else:
                path.mkdir(parents=True)
                path.chmod(0o777)
            if "secret" in volume:
                await self.fill(path, meta["namespace"], volume["secret"])
        words: list[str] = []
        for mount in sorted(spec["containers"][0].get("volumeMounts") or (), key=lambda one: one["mountPath"]):
            source = sources[mount["name"]] / mount.get("subPath", "")
            for parent in reversed(Path(mount["mountPath"]).parents[:-1]):
                words += ["--perms", "0755", "--dir", str(parent)]
            words += ["--ro-bind" if mount.get("readOnly") else "--bind", str(source), mount["mountPath"]]
        return words

    async def fill(self, path: Path, namespace: str, source: dict[str, Any]) -> None:
        while True:
            secret = await self.call("GET", f"/api/v1/namespaces/{namespace}/secrets/{source['secretName']}")
            if "data" in secret:
                break
            await asyncio.sleep(0.1)
        items = source.get("items") or [{"key": key, "path": key} for key in secret["data"]]
        for item in items:
            target = path / item["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(base64.b64decode(secret["data"][item["key"]]))
            target.chmod(0o444)

    def argv(self, container: Container, mounts: list[str], env: dict[str, str]) -> list[str]:
        spec = container.pod["spec"]
        main = spec["containers"][0]
        words = ["bwrap", "--die-with-parent", "--unshare-pid", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        for name in ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"):
            if os.path.islink(name):
                words += ["--symlink", os.readlink(name), name]
            elif os.path.isdir(name):
                words += ["--ro-bind", name, name]
        words += [*mounts, "--chdir", main.get("workingDir", "/"), "--clearenv"]
        for key, value in env.items():
            words += ["--setenv", key, value]
        uid = spec.get("securityContext", {}).get("runAsUser")
        drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid and not os.geteuid() else []
        return [*words, "--", *drop, *(expanded(word, env) for word in main["command"])]

    def env(self, container: Container) -> dict[str, str]:
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        for entry in container.pod["spec"]["containers"][0].get("env") or ():
            if "valueFrom" in entry:
                name = entry["valueFrom"]["fieldRef"]["fieldPath"].split("'")[1]
                env[entry["name"]] = container.pod["metadata"].get("annotations", {}).get(name, "")
            else:
                env[entry["name"]] = expanded(entry.get("value", ""), env)
        return env

    async def work(self, container: Container, mounts: list[str]) -> None:
        """Until the process has ended; then tells how."""
        words = self.argv(container, mounts, self.env(container))
        container.process = process = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=1 << 24
        )
        watcher = asyncio.create_task(self.hold(container))
        assert process.stdout is not None
        while line := await process.stdout.readline():
            container.lines.append((time.time_ns(), line if line.endswith(b"\n") else line + b"\n"))
        code = await process.wait()
        watcher.cancel()
        if container.pod["status"].get("phase") == "Failed":
            return
        code = code if code >= 0 else 128 - code
        reason = "OOMKilled" if container.killed_for == "OOMKilled" else "Completed" if code == 0 else "Error"
        state = {"exitCode": code, "reason": reason, "startedAt": container.started, "finishedAt": now()}
        deadline = container.killed_for == "DeadlineExceeded"
        more = {"reason": "DeadlineExceeded", "message": "Pod was active on the node too long"} if deadline else {}
        phase = "Succeeded" if code == 0 and not deadline else "Failed"
        await self.tell(container, phase, {"terminated": state}, **more)

    async def hold(self, container: Container) -> None:
        """Limits, by looking every now and then."""
        spec = container.pod["spec"]
        limits = spec["containers"][0]["resources"]["limits"]
        memory = int(limits["memory"])
        deadline = container.began + spec.get("activeDeadlineSeconds", 1 << 30)
        assert container.process is not None
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(container.process.pid).children(recursive=True)
                used = cpu = 0.0
                for one in family:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        used += one.memory_info().rss
                        cpu += sum(one.cpu_times()[:2])
                container.memory, container.cpu_s = int(used), max(container.cpu_s, cpu)
            if container.memory > memory:
                container.killed_for = "OOMKilled"
                self.kill(container, signal.SIGKILL)
            if time.monotonic() > deadline:
                container.killed_for = "DeadlineExceeded"
                self.kill(container, signal.SIGKILL)
            if container.deleting is not None and time.monotonic() > container.deleting:
                self.kill(container, signal.SIGKILL)
            await asyncio.sleep(SAMPLE_S)

    # --- metrics and logs -------------------------------------------------------------------------------------------

    async def measure(self) -> None:
        """What a metrics server would publish, as objects of a custom resource of that name."""
        before: dict[str, tuple[float, float]] = {}
        while self.settings["metrics"]:
            await asyncio.sleep(1)
            for uid, container in list(self.containers.items()):
                if container.process is None or container.process.returncode is not None:
                    continue
                meta, at = container.pod["metadata"], time.time()
                last, cpu = before.get(uid, (at - 1, 0.0))
                before[uid] = (at, container.cpu_s)
                rate = round((container.cpu_s - cpu) / (at - last) * 1e9)
                body = {
                    "apiVersion": "metrics.k8s.io/v1beta1",
                    "kind": "PodMetrics",
                    "metadata": {"name": meta["name"], "labels": meta.get("labels", {})},
                    "timestamp": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "window": "1s",
                    "containers": [{"name": "job", "usage": {"cpu": f"{rate}n", "memory": str(container.memory)}}],
                }
                path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{meta['namespace']}/pods"
                done = await self.call("POST", path, body)
                if done.get("refused") == 409:
                    await self.call("PATCH", f"{path}/{meta['name']}", body, MERGE)

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """GET /containerLogs/NAMESPACE/POD/CONTAINER"""
        if scope["type"] != "http":
            return
        _, _, namespace, name, *_ = [*scope["path"].split("/"), "", "", ""]
        query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
        found = [
            one for one in self.containers.values()
            if (one.pod["metadata"]["namespace"], one.pod["metadata"]["name"]) == (namespace, name)
        ]  # fmt: skip
        since = query.get("sinceTime", "")
        start = datetime.fromisoformat(since).timestamp() if since else 0.0
        body = b""
        for stamp, line in found[-1].lines if found else ():
            if stamp / 1e9 >= start:
                second = datetime.fromtimestamp(stamp // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
                body += f"{second}.{stamp % 10**9:09d}Z ".encode() * (query.get("timestamps") == "true") + line
        await send({"type": "http.response.start", "status": 200 if found else 404, "headers": []})
        await send({"type": "http.response.body", "body": body})


async def main(path: str) -> None:
    settings = json.loads(Path(path).read_text())
    kubelet = Kubelet(settings)
    certificate, key = settings["tls"]
    config = uvicorn.Config(
        kubelet.serve, host="127.0.0.1", port=0, ssl_certfile=certificate, ssl_keyfile=key, lifespan="off",
        interface="asgi3", log_level="warning",
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    kubelet.port = server.servers[0].sockets[0].getsockname()[1]
    for node in kubelet.nodes:
        await kubelet.register(node)
    await asyncio.gather(serving, kubelet.beat(), kubelet.watch(), kubelet.measure())


if __name__ == "__main__":
    if shutil.which("bwrap") is None:
        sys.exit("the test kubelet needs bubblewrap: sudo apt-get install -y bubblewrap")
    asyncio.run(main(sys.argv[1]))
