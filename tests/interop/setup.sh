#!/usr/bin/env bash
# Installs the peers that the tests in this folder talk to, when they are not there yet.
# Debian and Ubuntu; elsewhere install Java 17, Maven and libcoap's example programs by hand.
set -eu

missing=""
command -v javac >/dev/null || missing="$missing openjdk-17-jdk-headless"
command -v mvn >/dev/null || missing="$missing maven"
if ! command -v coap-server-notls >/dev/null || ! command -v coap-client-notls >/dev/null; then
  missing="$missing libcoap3-bin"
fi
command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || missing="$missing mosquitto"
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
[ -n "$(find /usr/lib/postgresql -name initdb 2>/dev/null)" ] || missing="$missing postgresql"
command -v chromium >/dev/null || missing="$missing chromium"
command -v chromedriver >/dev/null || missing="$missing chromium-driver"
command -v swupdate >/dev/null || missing="$missing swupdate"
command -v openssl >/dev/null || missing="$missing openssl"
command -v mender-artifact >/dev/null || missing="$missing mender-artifact"
command -v unshare >/dev/null || missing="$missing util-linux"
if ! command -v tshark >/dev/null || ! command -v text2pcap >/dev/null; then
  missing="$missing tshark"
fi
PATH="$PATH:/sbin:/usr/sbin" ldconfig -p | grep -q 'libwbxml2\.so\.1' || missing="$missing libwbxml2-1"
# mender-client is unpacked, never installed: its package starts a service.
peers="$(cd "$(dirname "$0")" && pwd)/.peers"
unpack=""
if [ ! -x "$peers/mender-client/usr/bin/mender" ]; then
  unpack="mender-client"
  missing="$missing libglib2.0-0 libssl3 liblzma5"
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "interop needs$missing (Debian names), and there is no apt-get to install them with" >&2
  exit 1
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
  as_root="sudo"
  command -v sudo >/dev/null || { echo "installing$missing needs root or sudo" >&2; exit 1; }
fi

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
quietly() {
  if ! $as_root env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1; then
    cat "$log" >&2
    echo "failed: $*" >&2
    exit 1
  fi
}
quietly apt-get update -q
# shellcheck disable=SC2086  # a list of package names
quietly apt-get install -q -y --no-install-recommends $missing
if [ -n "$unpack" ]; then
  mkdir -p "$peers"
  part="$(mktemp -d "$peers/part.XXXXXX")"
  trap 'rm -rf "$log" "$part"' EXIT
  (cd "$part" && apt-get download -q "$unpack") >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
  dpkg-deb --extract "$part"/*.deb "$part/root"
  rm -rf "$peers/mender-client"
  mv "$part/root" "$peers/mender-client"
fi
