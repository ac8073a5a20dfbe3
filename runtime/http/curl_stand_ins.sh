#!/bin/sh
# curl_stand_ins.sh OUT LINK NAMES COMPILER...: makes shared objects that stand in for libraries of libcurl that http_client never needs.
#
# libcurl speaks many protocols; with RTMP, SSH, LDAP and Kerberos come fourteen libraries, which take 4 MB and milliseconds of
# every program that sends a request. A program linked with LINK/without-*.so loads OUT/without-*.so first: each bears the name
# (SONAME) of such a library, which the loader therefore takes as loaded, and has all of its functions (../stand_in.sh). A
# libcurl that is linked with none of them, or with others, takes no notice.
set -eu
out=$1 link=$2 names=$3
shift 3
libcurl=$("$@" -print-file-name=libcurl.so)
[ -e "$libcurl" ] || { echo "curl_stand_ins.sh: no libcurl.so; apt-get install libcurl4-openssl-dev" >&2; exit 1; }
rm -rf "$out" "$link"
mkdir -p "$out" "$link"
for name in $names; do
    soname=$(readelf -dW "$libcurl" | sed -n "s/.*(NEEDED).*\[\(lib${name}[-.][^]]*\)\].*/\1/p")
    [ -n "$soname" ] || soname=without-$name
    library=$("$@" -print-file-name="$soname")
    { readelf --dyn-syms -W "$library" 2>/dev/null || true; } |
        awk '$5 == "GLOBAL" && $7 != "UND" && $7 != "ABS" && $8 ~ /^[A-Za-z]/ { print $8 }' |
        "$(dirname "$0")/../stand_in.sh" "$out/without-$name.so" "$soname" "$@"
    # What programs are linked with asks for the file by its own name.
    "$@" -fPIC -shared -nostdlib -Wl,-soname,"without-$name.so" -o "$link/without-$name.so" -x c /dev/null
done
