#!/bin/sh
# stand_in.sh OUT SONAME COMPILER... < SYMBOLS: makes a shared object that stands in for a library.
#
# It bears the library's name (SONAME), so that the loader takes the library as loaded, and has the functions of SYMBOLS, which do
# nothing: a line for each, NAME, NAME@VERSION or NAME@@VERSION. Those of GSSAPI say that they failed (GSS_S_FAILURE): a database
# server may ask libpq for them, which would take a success at its word.
set -eu
out=$1 soname=$2
shift 2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
awk -v c="$folder/c.c" -v map="$folder/map" '
    BEGIN { printf "" > c; printf "" > map }
    {
        n = split($1, part, "@")
        if (part[1] == "" || seen[part[1]]++) next
        printf "unsigned long %s(void); unsigned long %s(void) { return %s; }\n", part[1], part[1],
            part[1] ~ /^gss_/ ? "13ul << 16" : "0" > c
        if (n > 1) names[part[n]] = names[part[n]] " " part[1] ";"
    }
    END { for (version in names) printf "%s { global:%s };\n", version, names[version] > map }'
versions=
[ ! -s "$folder/map" ] || versions=-Wl,--version-script=$folder/map
"$@" -O2 -w -fno-builtin -fPIC -shared -nostdlib -s -Wl,-z,noseparate-code -Wl,-soname,"$soname" ${versions:+"$versions"} \
    -o "$out" "$folder/c.c"
