"""Debian's `mender-client` as a device of its own.

Its root is a folder with the client's fixed paths, into which it is locked in a private mount
namespace. Nothing outside the folder is written, and no service is installed: `setup.sh` unpacks
the package, it does not install it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

CLIENT = Path(__file__).parent / ".peers" / "mender-client" / "usr" / "bin" / "mender"

PATIENCE = 120.0
"""Seconds until what was waited for must have happened; it takes two to six."""

GRACE = 10.0
"""Seconds that the client has to end before it is killed."""

# What the client needs of the system, bound into its root; its own paths are the folder's.
ENTER = """
set -e
for part in usr/bin usr/lib usr/lib64 dev proc; do
  [ -d "/$part" ] || continue
  mkdir -p "$ROOT/$part"
  mount --rbind "/$part" "$ROOT/$part"
done
exec chroot "$ROOT" /opt/mender/mender --no-syslog --log-level debug daemon
"""

# The update module, as the client's documentation of the protocol wants it: called for each state
# with a folder in which `files` is the payload. What it installs into is a file of its own.
MODULE = """#!/bin/sh
set -e
echo "$1" >> /slot/states
case "$1" in
  NeedsArtifactReboot) cat /slot/needs-reboot ;;
  SupportsRollback) echo Yes ;;
  ArtifactInstall)
    cp /slot/image /slot/before
    cp "$2"/files/* /slot/image
    [ ! -e /slot/refuse ]
    ;;
  ArtifactVerifyReboot) [ ! -e /slot/bad-boot ] ;;
  ArtifactRollback) cp /slot/before /slot/image ;;
esac
"""

# The client is what `reboot` ends: the test starts it again, as a boot would.
REBOOT = """#!/bin/sh
echo reboot >> /slot/states
kill -KILL "$PPID"
"""


class MenderDevice:
    """One device in `folder`, and the running client, if it runs."""

    def __init__(self, folder: Path, *, device_type: str, serial: str, running: bytes) -> None:
        self.root = folder / "device"
        self.identity = json.dumps({"serial": serial}, separators=(",", ":"))
        self.slot = self.root / "slot"
        self.log = folder / "mender.log"
        self._process: asyncio.subprocess.Process | None = None
        for part in (
            *("etc/mender", "var/lib/mender", "tmp", "opt/mender", "slot", "data"),
            *("usr/share/mender/identity", "usr/share/mender/inventory"),
            "usr/share/mender/modules/v3",
        ):
            (self.root / part).mkdir(parents=True)
        for name in ("bin", "lib", "lib64"):
            (self.root / name).symlink_to(f"usr/{name}")
        shutil.copy(CLIENT, self.root / "opt/mender/mender")
        self._script("usr/share/mender/identity/mender-device-identity", f"echo serial={serial}\n")
        self._script("usr/share/mender/modules/v3/mcuboot", MODULE)
        self._script("opt/mender/reboot", REBOOT)
        (self.root / "etc/mender/artifact_info").write_text("artifact_name=factory\n")
        (self.root / "var/lib/mender/device_type").write_text(f"device_type={device_type}\n")
        (self.slot / "image").write_bytes(running)
        self.needs_reboot("No")

    def _script(self, path: str, text: str) -> None:
        file = self.root / path
        file.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}")
        file.chmod(0o755)

    def needs_reboot(self, answer: str) -> None:
        """No, or Automatic: the client reboots the device itself."""
        (self.slot / "needs-reboot").write_text(f"{answer}\n")

    def flag(self, name: str) -> None:
        """`refuse`: the module refuses to install. `bad-boot`: the image does not come up."""
        (self.slot / name).touch()

    @property
    def image(self) -> bytes:
        return (self.slot / "image").read_bytes()

    @property
    def states(self) -> list[str]:
        """The states that the module was called for, and reboots."""
        file = self.slot / "states"
        return file.read_text().split() if file.exists() else []

    def configure(self, server: str) -> None:
        config = {
            "ServerURL": server,
            "UpdatePollIntervalSeconds": 1,
            "InventoryPollIntervalSeconds": 2,
            "RetryPollIntervalSeconds": 1,
            "DBus": {"Enabled": False},
        }
        (self.root / "etc/mender/mender.conf").write_text(json.dumps(config))

    async def boot(self) -> None:
        """Start the client; after a reboot, again."""
        if self._process is not None:
            await self._process.wait()
        enter = ["unshare", "--mount"]
        if os.geteuid():
            enter.append("--map-root-user")
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *enter,
                "sh",
                "-c",
                ENTER,
                env={"ROOT": str(self.root), "PATH": "/opt/mender:/usr/bin:/usr/sbin"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.returncode is not None

    async def off(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), GRACE)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def until(self, done: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not done():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            tail = self.log.read_bytes()[-4000:].decode(errors="replace")
            raise AssertionError(f"never came to {what}: {self.states}\n{tail}") from None


@asynccontextmanager
async def powered(device: MenderDevice, server: str) -> AsyncIterator[MenderDevice]:
    device.configure(server)
    await device.boot()
    try:
        yield device
    finally:
        await device.off()
