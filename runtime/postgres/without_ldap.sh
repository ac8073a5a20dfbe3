#!/bin/sh
# without_ldap.sh OUT COMPILER...: makes a shared object that stands in for libldap when libpq is loaded; see pq_api.c.
#
# It has the name and the functions of the libldap that this machine's libpq is linked with (../stand_in.sh). If libpq is
# linked with none, or with one of another name where it runs, it stands in for nothing and does no harm.
set -eu
out=$1
shift
libpq=$("$@" -print-file-name=libpq.so)
[ -e "$libpq" ] || { echo "without_ldap.sh: no libpq.so; apt-get install libpq-dev" >&2; exit 1; }
soname=$(readelf -dW "$libpq" | sed -n 's/.*(NEEDED).*\[\(libldap[^]]*\)\].*/\1/p')
readelf --dyn-syms -W "$libpq" | awk '$7 == "UND" && $8 ~ /^ldap_/ { print $8 }' |
    "$(dirname "$0")/../stand_in.sh" "$out" "${soname:-cicada-without-ldap}" "$@"
