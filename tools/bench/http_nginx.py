"""nginx, the server of the HTTP figures and of their yardsticks: the same one for both."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from tools.bench.errors import BenchError
from tools.bench.ports import free_port

__all__ = ["BODY", "Nginx"]

BODY = (
    '{"config":{"polling":{"sleep":"00:05:00"}},"_links":{"configData":'
    '{"href":"http://127.0.0.1/tenant/controller/v1/device/configData"}}}'
)
"""What a poll of an idle device is answered: hawkBit's words, 130 bytes."""

CONNECTIONS = 16_384
START_SECONDS = 20.0

CONFIG = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    keepalive_timeout 600s;
    keepalive_requests 100000000;
    types {{ application/json json; }}
    default_type application/json;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port}{options};
        {tls}
        location / {{ return 200 '{body}'; }}
        {more}
    }}
}}
"""

TLS = """\
ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.pem;
        ssl_client_certificate {folder}/authority.pem;
        ssl_verify_client {verify};"""


def _user() -> str:
    """Started by root it would give its workers to somebody who may not read these folders; for
    anybody else there is nothing to say (ngx_core_module, `user`)."""
    if os.geteuid():
        return ""
    return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};"


class Nginx:
    """One nginx on a free port of 127.0.0.1, for as long as the context lasts.

    With `verify` (`off`, `optional`, `on`) it speaks TLS, with `server.pem` (certificate and key)
    and `authority.pem` of `folder`. `more` is put into its server block."""

    def __init__(self, folder: Path, *, verify: str = "", more: str = "") -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise BenchError("nginx is not installed (Debian: nginx-light)")
        self.port = free_port()
        self.origin = f"{'https' if verify else 'http'}://127.0.0.1:{self.port}"
        self.folder = folder
        config = folder / f"nginx-{self.port}.conf"
        config.write_text(
            CONFIG.format(
                folder=folder,
                user=_user(),
                files=CONNECTIONS + 64,
                connections=CONNECTIONS,
                port=self.port,
                options=" ssl backlog=4096" if verify else " backlog=4096",
                tls=TLS.format(folder=folder, verify=verify) if verify else "",
                body=BODY,
                more=more,
            )
        )
        self._process = subprocess.Popen(
            [program, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
        )

    def __enter__(self) -> Nginx:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return self
            except OSError:
                time.sleep(0.02)
        self.stop()
        log = (self.folder / "error.log").read_text(errors="replace")[-500:]
        raise BenchError(f"nginx does not start: {log}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
