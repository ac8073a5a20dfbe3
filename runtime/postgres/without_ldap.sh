#!/bin/sh
# without_ldap.sh OUT COMPILER...: makes a shared object that stands in for libldap when libpq is loaded; see pq_api.c.
#
# It has the name and the functions of the libldap that this machine's libpq is linked with, which do nothing. If libpq is
# linked with none, or with one of another name where it runs, it stands in for nothing and does no harm.
set -eu
out=$1
shift
libpq=$("$@" -print-file-name=libpq.so)
[ -e "$libpq" ] || { echo "without_ldap.sh: no libpq.so; apt-get install libpq-dev" >&2; exit 1; }
soname=$(readelf -dW "$libpq" | sed -n 's/.*(NEEDED).*\[\(libldap[^]]*\)\].*/\1/p')
# NAME@VERSION, as libpq asks for them
symbols=$(readelf --dyn-syms -W "$libpq" | awk '$7 == "UND" && $8 ~ /^ldap_/ { print $8 }')

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
version=$(printf '%s\n' "$symbols" | sed -n 's/.*@//p' | sort -u)   # one, or none
for symbol in $symbols; do
    echo "void *${symbol%%@*}(void); void *${symbol%%@*}(void) { return 0; }"
done > "$folder/stand_in.c"
echo "$version { global: ldap_*; local: *; };" > "$folder/stand_in.map"
"$@" -O2 -fPIC -shared -nostdlib -Wl,-z,noseparate-code -Wl,-soname,"${soname:-cicada-without-ldap}" \
    -Wl,--version-script="$folder/stand_in.map" -o "$out" "$folder/stand_in.c"
