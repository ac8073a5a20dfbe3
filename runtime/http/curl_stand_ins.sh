#!/bin/sh
# curl_stand_ins.sh OUT LINK NAMES COMPILER...: makes shared objects that stand in for libraries of libcurl that http_client never needs.
#
# libcurl speaks many protocols; with RTMP, SSH, LDAP and Kerberos come fourteen libraries, which take 4 MB and milliseconds of
# every program that sends a request. A program linked with LINK/without-*.so loads OUT/without-*.so first: each bears the name
# (SONAME) of such a library, which the loader therefore takes as loaded, and has all of its functions, which do nothing. A
# libcurl that is linked with none of them, or with others, takes no notice.
set -eu
out=$1 link=$2 names=$3
shift 3
libcurl=$("$@" -print-file-name=libcurl.so)
[ -e "$libcurl" ] || { echo "curl_stand_ins.sh: no libcurl.so; apt-get install libcurl4-openssl-dev" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
rm -rf "$out" "$link"
mkdir -p "$out" "$link"
for name in $names; do
    soname=$(readelf -dW "$libcurl" | sed -n "s/.*(NEEDED).*\[\(lib${name}[-.][^]]*\)\].*/\1/p")
    [ -n "$soname" ] || soname=without-$name
    library=$("$@" -print-file-name="$soname")
    # NAME@@VERSION, or NAME alone; a file of C and one of the versions
    { readelf --dyn-syms -W "$library" 2>/dev/null || true; } | awk -v c="$folder/c.c" -v map="$folder/map" '
        BEGIN { printf "" > c; printf "" > map }
        $5 == "GLOBAL" && $7 != "UND" && $7 != "ABS" && $8 ~ /^[A-Za-z]/ {
            n = split($8, part, "@")
            if (seen[part[1]]++) next
            printf "void *%s(void); void *%s(void) { return 0; }\n", part[1], part[1] > c
            if (n > 1) names[part[n]] = names[part[n]] " " part[1] ";"
        }
        END { for (version in names) printf "%s { global:%s };\n", version, names[version] > map }'
    versions=
    [ ! -s "$folder/map" ] || versions=-Wl,--version-script=$folder/map
    "$@" -O2 -w -fno-builtin -fPIC -shared -nostdlib -s -Wl,-z,noseparate-code -Wl,-soname,"$soname" \
        ${versions:+"$versions"} -o "$out/without-$name.so" "$folder/c.c"
    # What programs are linked with asks for the file by its own name.
    "$@" -fPIC -shared -nostdlib -Wl,-soname,"without-$name.so" -o "$link/without-$name.so" -x c /dev/null
done
