#!/usr/bin/env bash
# layers_test.sh SOURCE [--draw]: checks that each file of src/ and include/ includes only what is in
# its own layer or in one before it, that the files of a layer include each other in no circle, and
# that src/README.md names every file and draws this graph. --draw: prints the graph.
set -euo pipefail
cd "$1"
layers="base wire server waiting lock admin cli"

# The layer of a public header: that of the sources behind it.
layer_of_header() {
  case $1 in
    version|error|key|servers|fencing_token|release|options|client_options|observer|prometheus|detail/export) echo base ;;
    detail/plain_text|detail/wait_limit) echo base ;;
    client) echo server ;;
    inspect|diagnosis|move_servers|memcachedlock) echo admin ;;
    *) echo lock ;;
  esac
}

# Prints "LAYER UNIT" of a file: a source and its header are one unit.
unit_of() {
  local name=${1%.?pp}
  case $name in
    src/*) name=${name#src/}; echo "${name%%/*} ${name#*/}" ;;
    include/memcachedlock/*)
      name=${name#include/memcachedlock/}
      echo "$(layer_of_header "$name") ${name#detail/}" ;;
  esac
}

# "FROM_LAYER FROM_UNIT TO_LAYER TO_UNIT" for each #include "…".
edges() {
  local file included path
  git ls-files --cached --others --exclude-standard 'src/*.?pp' 'include/*.hpp' | while read -r file; do
    [ -e "$file" ] || continue
    sed -n 's/^#include "\([^"]*\)".*/\1/p' "$file" | while read -r included; do
      path=src/$included
      [ "${included#memcachedlock/}" = "$included" ] || path=include/$included
      [ -e "$path" ] || { echo "$file includes $included, which is not there" >&2; exit 1; }
      echo "$(unit_of "$file") $(unit_of "$path")"
    done
  done | sort -u
}
all=$(edges)

status=0
for layer in $layers; do
  # shellcheck disable=SC2086  # words
  late=$(awk -v layer="$layer" -v order="$layers" '
    BEGIN { n = split(order, names, " "); for (i = 1; i <= n; ++i) at[names[i]] = i }
    $1 == layer && at[$3] > at[layer] { print "  " $2 " -> " $3 "/" $4 }' <<<"$all")
  [ -z "$late" ] || { echo "$layer includes what comes after it:"; echo "$late"; status=1; }
  awk -v layer="$layer" '$1 == layer && $3 == layer && $2 != $4 { print $2, $4 }' <<<"$all" |
    tsort >/dev/null || { echo "a circle in $layer (above)"; status=1; }
done

# A line a unit: which units of its own layer, and which layers, it includes.
draw() {
  local layer
  for layer in $layers; do
    echo "$layer"
    awk -v layer="$layer" -v order="$layers" '
      $1 == layer {
        units[$2]
        if ($3 == layer && $4 != $2) inside[$2] = inside[$2] " " $4
        if ($3 != layer) outside[$2, $3]
      }
      $3 == layer { units[$4] }
      END {
        n = split(order, names, " ")
        for (unit in units) {
          line = "  " unit
          if (inside[unit] != "") line = line " ->" inside[unit]
          above = ""
          for (i = 1; i <= n; ++i) if ((unit, names[i]) in outside) above = above " " names[i]
          if (above != "") line = line "  |" above
          print line
        }
      }' <<<"$all" | LC_ALL=C sort
  done
}
if [ "${2:-}" = --draw ]; then
  draw
  exit "$status"
fi

drawn=$(sed -n '/^```graph$/,/^```$/p' src/README.md | sed '1d;$d')
diff <(echo "$drawn") <(draw) ||
  { echo "src/README.md draws another graph; it is made by: $0 . --draw"; status=1; }
for file in $(git ls-files 'src/*.?pp' | sed 's,.*/,,; s/\.[ch]pp$//' | sort -u); do
  grep -qw -- "$file" src/README.md || { echo "src/README.md does not name $file"; status=1; }
done
exit "$status"
