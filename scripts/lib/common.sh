# shellcheck shell=bash
# What the scripts share: finding the project, saying things, and getting tools that are missing.
# Sourced after `set -euo pipefail`. Progress goes to stderr, so that a script's stdout is its result.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() { printf '%s\n' "$*" >&2; }
step() { printf '\n== %s\n' "$*" >&2; }
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# The comment block at the head of a script is its help.
usage() { sed -n '2,/^[^#]/{/^#/{s/^# \{0,1\}//;p;};}' "$0"; }

upper() { printf '%s' "$1" | tr '[:lower:]' '[:upper:]'; }

# need TOOL WHERE_TO_GET_IT
need() { have "$1" || die "$1 is missing: $2"; }

sha256_of() {
  if have sha256sum; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1
}

# The JavaScript tooling of package-lock.json, again only when the lock file has changed.
ensure_npm() {
  need node "install Node.js 20 or later"
  need npm "it comes with Node.js"
  local stamp=$ROOT/node_modules/.installed-from
  if ! cmp -s "$ROOT/package-lock.json" "$stamp"; then
    step "JavaScript tooling (npm ci)"
    (cd "$ROOT" && npm ci --ignore-scripts --no-audit --no-fund >&2) &&
      cp "$ROOT/package-lock.json" "$stamp"
  fi
}

# first_of NAME…: the path of the first one that exists.
first_of() {
  local name
  for name in "$@"; do
    if [ -n "$name" ] && have "$name"; then
      command -v "$name"
      return
    fi
  done
  return 1
}

find_chromium() {
  first_of "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable \
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
}
find_chromedriver() { first_of "${CHROMEDRIVER:-}" chromedriver chromium.chromedriver; }
find_firefox() {
  first_of "${FIREFOX:-}" firefox-esr firefox /Applications/Firefox.app/Contents/MacOS/firefox
}

# apt_install PACKAGE…: succeeds only where the system's packages are ours to install.
apt_install() {
  local as_root=()
  have apt-get || return 1
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || return 1
    as_root=(sudo -n)
  fi
  step "System packages: $*"
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2 &&
    ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# ensure_browsers chromium|chromedriver|firefox…: exports CHROMIUM, CHROMEDRIVER and FIREFOX.
ensure_browsers() {
  local browser missing=() packages=()
  for browser in "$@"; do
    if ! "find_$browser" >/dev/null; then
      missing+=("$browser")
      case $browser in
        chromium) packages+=(chromium) ;;
        chromedriver) packages+=(chromium-driver) ;;
        firefox) packages+=(firefox-esr) ;;
      esac
    fi
  done
  if [ ${#missing[@]} -gt 0 ]; then
    apt_install "${packages[@]}" || true
    for browser in "${missing[@]}"; do
      if ! "find_$browser" >/dev/null; then
        say "$browser is missing and cannot be installed from here: install it" \
          "(Debian: ${packages[*]}), or name its program in $(upper "$browser")"
        return 1
      fi
    done
  fi
  for browser in "$@"; do
    export "$(upper "$browser")=$("find_$browser")"
  done
}
