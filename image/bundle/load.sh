#!/bin/sh
# Checks every file of this bundle, then loads the image of @TITLE@ @VERSION@ where it is wanted.
#
#   ./load.sh --check                     check only
#   ./load.sh --docker | --podman         load into the daemon of this machine
#   ./load.sh --registry HOST[:PORT]/PATH copy all platforms with skopeo; a registry shows the digests of digests.txt
#
#   --key FILE       verify the signature with this public SSH key, or with this file of allowed signers (ssh-keygen(1))
#   --signer NAME    whose key in the file of allowed signers; default: the one who signed
#   --platform NAME  amd64 or arm64, for --docker and --podman; default: this machine's
#   --plain-http     the registry speaks HTTP, or HTTPS with a certificate that nobody knows
#
# Needs sh, find, sort, sed, grep, wc and sha256sum (or shasum, or openssl); for --key ssh-keygen; never a network.
# Exit codes: 0 good, 1 a file is not as it was made, 2 usage or a missing program, 3 loading failed.
set -eu
LC_ALL=C
export LC_ALL
unset CDPATH

# All of it is one function, so that a shell that reads as it runs has read the end before it begins.
main() {
  action='' target='' key='' signer='' platform='' plain_http='' work='' ended='' harmed=''
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  while [ $# -gt 0 ]; do
    case $1 in
      --check) choose check ;;
      --docker) choose docker ;;
      --podman) choose podman ;;
      --registry) choose registry; target=$(value "$@"); shift ;;
      --key) key=$(value "$@"); shift ;;
      --signer) signer=$(value "$@"); shift ;;
      --platform) platform=$(value "$@"); shift ;;
      --plain-http) plain_http=yes ;;
      -h | --help) ended=yes; sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
      *) usage "there is no option $1" ;;
    esac
    shift
  done
  [ -n "$action" ] || usage 'say what to do: --check, --docker, --podman or --registry HOST/PATH'
  case $key in '' | /*) ;; *) key=$PWD/$key ;; esac
  cd -- "$(dirname -- "$0")"
  check_own_sum
  check_signature
  check_kinds
  check_sums
  [ -z "$harmed" ] || exit 1
  say "$(wc -l < SHA256SUMS | sed 's/ //g') files are as they were made"
  case $action in
    check) cat digests.txt ;;
    docker | podman) load "$action" ;;
    registry) copy ;;
  esac
}

choose() {
  [ -z "$action" ] || usage "--$action and --$1 do not go together"
  action=$1
}

value() {
  [ $# -ge 2 ] || usage "$1 needs a value"
  printf '%s\n' "$2"
}

say() { printf '%s\n' "load.sh: $*" >&2; }

# However it ends, it leaves nothing and says something.
finish() {
  code=$?
  [ -z "$work" ] || rm -rf "$work"
  [ "$code" -eq 0 ] || [ -n "$ended" ] || say "stopped with $code; if nothing says why, load.sh itself was changed"
}

usage() {
  ended=yes
  say "$1"
  say 'hint: ./load.sh --help'
  exit 2
}

# bad FILE WHAT: the one way in which a check ends that does not pass.
bad() {
  ended=yes harmed=yes
  say "$1: $2"
  say 'nothing was loaded; copy the bundle again, and compare its checksum with that of its sender'
  exit 1
}

sum() {
  if command -v sha256sum > /dev/null 2>&1; then
    sha256sum < "$1" | sed 's/ .*//'
  elif command -v shasum > /dev/null 2>&1; then
    shasum -a 256 < "$1" | sed 's/ .*//'
  elif command -v openssl > /dev/null 2>&1; then
    openssl dgst -sha256 < "$1" | sed 's/.* //'
  else
    say 'checking needs sha256sum, shasum or openssl'
    exit 2
  fi
}

# The list and its signature, before anything in the list is believed.
check_own_sum() {
  for file in SHA256SUMS SHA256SUMS.sha256; do
    [ ! -L "$file" ] && [ -f "$file" ] || bad "$file" 'is missing, or no plain file'
  done
  [ ! -L SHA256SUMS.sig ] || bad SHA256SUMS.sig 'is no plain file'
  expected=$(printf '%s  SHA256SUMS\nx' "$(sum SHA256SUMS)")
  if [ -e SHA256SUMS.sig ]; then
    [ -f SHA256SUMS.sig ] || bad SHA256SUMS.sig 'is no plain file'
    expected=$(printf '%s\n%s  SHA256SUMS.sig\nx' "${expected%?x}" "$(sum SHA256SUMS.sig)")
  elif grep -q 'SHA256SUMS\.sig' SHA256SUMS.sha256; then
    bad SHA256SUMS.sig 'is missing'
  fi
  for file in SHA256SUMS SHA256SUMS.sig; do
    [ ! -f "$file" ] || grep -q -x -F "$(sum "$file")  $file" SHA256SUMS.sha256 ||
      bad "$file" 'is not as SHA256SUMS.sha256 says: one of the two was changed'
  done
  [ "$(cat SHA256SUMS.sha256; printf x)" = "$expected" ] || bad SHA256SUMS.sha256 'was changed'
}

check_signature() {
  if [ -z "$key" ]; then
    [ ! -f SHA256SUMS.sig ] || say 'the signature is not verified: name its key with --key'
    return 0
  fi
  [ -r "$key" ] || usage "the key $key cannot be read"
  [ -f SHA256SUMS.sig ] || bad SHA256SUMS.sig 'is missing, and a key was given'
  command -v ssh-keygen > /dev/null 2>&1 || usage 'verifying a signature needs ssh-keygen: install openssh-client'
  work=$(mktemp -d)
  # A public key alone becomes a file of allowed signers with one line.
  if grep -E '^(ssh-|ecdsa-|sk-)' "$key" > "$work/keys"; then
    sed 's/^/signer namespaces="obi-mcp-bundle" /' "$work/keys" > "$work/allowed"
    signer=signer
  else
    cat "$key" > "$work/allowed"
  fi
  if [ -z "$signer" ]; then
    signer=$(ssh-keygen -Y find-principals -s SHA256SUMS.sig -f "$work/allowed" 2> /dev/null | sed 1q) || signer=''
    [ -n "$signer" ] || bad SHA256SUMS.sig "is of nobody in $key"
  fi
  ssh-keygen -Y verify -f "$work/allowed" -I "$signer" -n obi-mcp-bundle -s SHA256SUMS.sig \
    < SHA256SUMS > "$work/said" 2>&1 || bad SHA256SUMS.sig "does not verify with $key: $(cat "$work/said")"
  say "$(cat "$work/said")"
}

# Plain files and directories alone: a link could point anywhere, and change after it was checked.
check_kinds() {
  odd=$(find . ! -type f ! -type d | sed 's|^\./||;1q')
  [ -z "$odd" ] || bad "$odd" 'is neither a file nor a directory'
  if grep -v -q -E '^[0-9a-f]{64}  [A-Za-z0-9][A-Za-z0-9._/-]*$' SHA256SUMS || grep -q '\.\.' SHA256SUMS; then
    bad SHA256SUMS 'has a line that is none'
  fi
}

check_sums() {
  listed=$(sed 's/^[^ ]*  //' SHA256SUMS | sort)
  there=$(find . -type f | sed 's|^\./||' | grep -v -x -F -e SHA256SUMS -e SHA256SUMS.sig -e SHA256SUMS.sha256 | sort)
  if [ "$listed" != "$there" ]; then
    for name in $listed; do
      [ -f "$name" ] || bad "$name" 'is missing'
    done
    # What is listed once and there once stands twice; what is left over was added, or is listed twice.
    bad "$(printf '%s\n%s\n' "$listed" "$there" | sort | uniq -u | sed 1q)" 'is not in SHA256SUMS, or is in it twice'
  fi
  count=0
  while read -r expected name; do
    [ "$(sum "$name")" = "$expected" ] || bad "$name" 'was changed'
    count=$((count + 1))
  done < SHA256SUMS
  [ "$count" -eq "$(printf '%s\n' "$there" | wc -l)" ] && [ "$count" -gt 5 ] || bad SHA256SUMS 'does not list every file'
}

load() {
  command -v "$1" > /dev/null 2>&1 || usage "$1 is not installed"
  if [ -z "$platform" ]; then
    case $(uname -m) in
      x86_64 | amd64) platform=amd64 ;;
      aarch64 | arm64) platform=arm64 ;;
      *) usage "there is no image for $(uname -m): name one with --platform" ;;
    esac
  fi
  archive=images/@TITLE@-@VERSION@-$platform.tar
  [ -f "$archive" ] || usage "there is no image for $platform: $(cd images && echo *)"
  "$1" load -i "$archive" >&2 || failed "$1 load"
  shown=$("$1" image inspect --format '{{.Id}}' @TITLE@:@VERSION@) || failed "$1 image inspect"
  # Docker names an image by its configuration, or with the containerd store by its manifest; Podman without sha256:.
  case "$(sed -n "s/^$platform[.a-z]* sha256://p" digests.txt)" in
    *"${shown#sha256:}"*) [ -n "$shown" ] || failed "$1 image inspect" ;;
    *) failed "$1 has $shown, which is not in digests.txt" ;;
  esac
  printf '%s\n' "@TITLE@:@VERSION@"
}

copy() {
  command -v skopeo > /dev/null 2>&1 || usage 'copying to a registry needs skopeo; or push oci/ with any other program'
  name=docker://${target%/}/@TITLE@:@VERSION@
  set --
  # skopeo wants a policy file, and a machine with nothing but skopeo may have none.
  [ -e /etc/containers/policy.json ] || [ -e "${HOME:-/}/.config/containers/policy.json" ] || set -- --insecure-policy
  skopeo "$@" copy -q --all ${plain_http:+--dest-tls-verify=false} oci:oci "$name" >&2 || failed "skopeo copy"
  raw=$(skopeo "$@" inspect --raw ${plain_http:+--tls-verify=false} "$name"; printf x) || failed "skopeo inspect"
  digest=sha256:$(printf '%s' "${raw%x}" | sum /dev/stdin)
  [ "$digest" = "$(sed -n 's/^index //p' digests.txt)" ] || failed "the registry has $digest, which is not in digests.txt"
  printf '%s\n' "${name#docker://}" "${target%/}/@TITLE@@$digest"
}

failed() {
  ended=yes
  say "$1: it did not work"
  exit 3
}

main "$@"
exit
