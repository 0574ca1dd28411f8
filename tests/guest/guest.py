"""One command in one guest: boots in seconds under software emulation, streams what it prints, ends with its exit code.

    guest = Guest()
    code = guest.run(["python3", "-m", "something"], timeout=120, line=print)

The guest's root is this machine's, shared by virtiofs and read only, with a layer in memory on top: every path is the
same inside and out, and nothing it writes stays. Modules are loaded on demand from the unpacked kernel package.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.guest.kernel import Kernel, KernelError, initramfs, newest

QEMU = "qemu-system-x86_64"
_SHARING = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")

# The time stamp counter is measured at boot, wrongly when this machine is busy: the guest's clock would run too fast.
# For the same reason timers are not tested.
_KERNEL_LINE = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=unstable clocksource=hpet"

INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module || echo "cannot load $module"; done
mount -t virtiofs -o ro host /host || exec reboot -f
mount -t tmpfs own /own
mkdir /own/upper /own/work
mount -t overlay -o lowerdir=/host,upperdir=/own/upper,workdir=/own/work root /root || exec reboot -f
mkdir -p /root/lib/modules
ln -s "$(cat /modules-at)" "/root/lib/modules/$(uname -r)"
for each in proc sys dev; do mount --move /$each /root/$each; done
mount -t tmpfs run /root/run
cp /start /root/run/start
exec switch_root /root /bin/sh /run/start
"""

START = """#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
ip link set lo up
hostname guest
{environment}
cd {directory}
until [ -c /dev/vport*p1 ] && [ -c /dev/vport*p2 ]; do sleep 0.01; done
{command} >"$(echo /dev/vport*p1)" 2>&1 </dev/null
echo $? >"$(echo /dev/vport*p2)"
echo s >/proc/sysrq-trigger
echo b >/proc/sysrq-trigger
sleep 10
"""


class GuestError(Exception):
    """The guest could not be started, did not come up or did not end in time; the message has its last words."""


def unavailable() -> str:
    """Why there can be no guest on this machine, "" when there can."""
    if not shutil.which(QEMU):
        return f"{QEMU} is not installed and could not be: apt-get install qemu-system-x86"
    if not _sharing():
        return f"virtiofsd is not installed: none of {', '.join(_SHARING)}"
    if os.geteuid() != 0:
        return "a guest that shares this machine's files needs root"
    return ""


class Guest:
    """Guests with so many processors and so much memory (MiB). Raises ``GuestError`` where there can be none."""

    def __init__(self, *, processors: int = 2, memory: int = 768) -> None:
        if why := unavailable():
            raise GuestError(why)
        try:
            self.kernel: Kernel = newest()
        except KernelError as error:
            raise GuestError(str(error)) from error
        self._processors, self._memory = processors, memory

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        line: Callable[[str], None] | None = None,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Boot, run the command as root, and return its exit code; ``line`` is called with each line it prints.

        Raises ``GuestError`` after ``timeout`` seconds, and when the guest ends without having run the command.
        """
        with tempfile.TemporaryDirectory(prefix="orca-guest-") as name:
            work = Path(name)
            settings = "\n".join(f"export {k}={shlex.quote(v)}" for k, v in (environment or {}).items())
            start = START.format(
                environment=settings,
                directory=shlex.quote(str(directory or Path.cwd())),
                command=shlex.join(argv),
            )
            files = {"init": INIT, "start": start, "modules-at": f"{self.kernel.modules}\n"}
            (work / "initramfs").write_bytes(initramfs(self.kernel, files))
            return self._boot(work, timeout, line or _print)

    def _boot(self, work: Path, timeout: float, line: Callable[[str], None]) -> int:
        deadline = time.monotonic() + timeout
        sharing = _start(
            [_sharing(), f"--socket-path={work}/files", "-o", "source=/", "-o", "cache=always", "-o", "sandbox=chroot"],
            output=work / "sharing",
        )
        try:
            while not (work / "files").exists():
                if sharing.poll() is not None or time.monotonic() > deadline:
                    raise GuestError(f"virtiofsd: {_tail(work / 'sharing')}")
                time.sleep(0.01)
            machine = _start(self._command(work), output=work / "machine")
            timer = threading.Timer(timeout, machine.kill)
            timer.start()
            try:
                assert machine.stdout
                for text in machine.stdout:
                    line(text.rstrip("\r\n"))
                machine.wait()
            finally:
                timer.cancel()
                _end(machine)
        finally:
            _end(sharing)
        said = (work / "exit").read_text().strip() if (work / "exit").exists() else ""
        if not said.isdigit():
            why = f"not done after {timeout:.0f} s" if time.monotonic() >= deadline else "ended too early"
            raise GuestError(f"the guest has {why}: {_tail(work / 'console')}{_tail(work / 'machine')}")
        return int(said)

    def _command(self, work: Path) -> list[str]:
        memory = f"{self._memory}M"
        return [
            *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-machine", "q35,memory-backend=memory", "-accel", "tcg,thread=multi", "-cpu", "max"),
            *("-smp", str(self._processors), "-m", memory),
            *("-object", f"memory-backend-memfd,id=memory,size={memory},share=on"),
            *("-kernel", str(self.kernel.image), "-initrd", str(work / "initramfs")),
            *("-append", _KERNEL_LINE),
            *("-chardev", f"file,id=console,path={work}/console", "-serial", "chardev:console"),
            *("-chardev", f"socket,id=files,path={work}/files"),
            *("-device", "vhost-user-fs-pci,chardev=files,tag=host"),
            *("-device", "virtio-serial-pci"),
            *("-chardev", "file,id=output,path=/dev/stdout", "-device", "virtserialport,chardev=output,nr=1"),
            *("-chardev", f"file,id=exit,path={work}/exit", "-device", "virtserialport,chardev=exit,nr=2"),
        ]


def _sharing() -> str:
    return next((path for path in _SHARING if os.access(path, os.X_OK)), "")


def _start(argv: Sequence[str], output: Path) -> subprocess.Popen[str]:
    """With its errors in a file; it dies with this process, however that ends."""
    with output.open("w") as errors:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
        )


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _tail(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[-2000:]
    except OSError:
        return ""


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
